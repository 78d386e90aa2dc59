"""The disk under a working gateway is full, then almost full, then has room again. Run by `test_disk_full`.

While it is full nothing is accepted and nothing is lost; what was in flight is written down afterwards; a file that
does not fit is fetched again later; device sessions survive. `KURIR_STORM_FULL` is how often it happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.harness.webhooks import Receiver, eventually
from tests.reliability.accountant import balance, quiet
from tests.reliability.callers_view import ask, is_ready
from tests.reliability.load import Callers
from tests.reliability.site import Site, open_site
from tests.reliability.small_disk import SmallDisk, here

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]
TIMES = int(os.environ.get("KURIR_STORM_FULL", "1"))
FILE = b"%PDF-1.4\n" + bytes(6_000_000)
ALMOST = 2_500_000
ASKED = "Apakah toko buka hari Minggu?"


async def test_nothing_is_lost(tmp_path: Path, receiver: Receiver):
    disk = here()
    async with open_site(
        tmp_path / "site", people=8, receiver=receiver.url("/"), data_dir=disk.folder / "gateway"
    ) as site:
        assert site.process is not None
        pid = site.process.pid
        await _a_file_waits_for_room(site, disk, pid)
        callers = Callers(site, "full")
        calling = asyncio.create_task(callers.go(1_000_000, callers=4, pause=0.05))
        for time in range(TIMES):
            await _answers(callers, "200")
            late = {"effect": "late_answer", "channel": "cloud_api", "kind": "send", "seconds": 3, "count": 2}
            fault = await site.sandbox.post("/faults", late)
            await _struck(site, fault["id"])
            disk.fill(pid)
            site.kills += 1
            await _answers(callers, "503")
            alive, ready = await asyncio.gather(ask(site, "GET", "/healthz"), ask(site, "GET", "/readyz"))
            assert (alive.status, ready.status) == (200, 503)
            for to in (site.shops[0].device_phone, site.shops[0].official.phone):
                await site.sandbox.post(
                    f"/people/{site.people[time % len(site.people)]}/messages", {"to": to, "text": ASKED}
                )
            await asyncio.sleep(3)
            disk.free(pid)
            await eventually(lambda: is_ready(site), timeout=20)
        await _answers(callers, "200")
        callers.stop()
        await calling
        assert site.process.poll() is None, "nobody restarted it"
        await eventually(lambda: asyncio.to_thread(_count, site), 2 * TIMES, timeout=20)
        await quiet(site, 120)
        sheet = await balance(site, callers.log, receiver.webhook_calls)
        slowest = max(call.seconds for call in callers.log)
        sys.stderr.write(f"\n{disk.kind}\n{sheet.render()}\nslowest answer {slowest:.2f} s\n")
        sheet.assert_zero(site.explain())
        assert sheet.totals["without a reply"] == 0
        for database in (site.settings.sqlite_path, *(site.settings.data_dir / "devices").glob("*.db")):
            with contextlib.closing(sqlite3.connect(database)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",), database


async def _a_file_waits_for_room(site: Site, disk: SmallDisk, pid: int) -> None:
    """A file that does not fit is no reason to fail its message; it is fetched again when there is room."""
    shop, person = site.shops[0], site.people[0]
    async with _file_server() as url:
        disk.fill(pid, ALMOST)
        body = {
            "secret_key": shop.api_key,
            "licenses_key": shop.official.key,
            "reciptient": person,
            "file_url": url,
        }
        sent = await ask(site, "POST", "/public/v1/send_meta_personal_message", json=body)
        assert sent.status == 200, sent
        asked = "SELECT state, error_code FROM messages WHERE content LIKE '%katalog%'"
        await eventually(lambda: asyncio.to_thread(site.rows, asked), [("queued", "media_not_stored")], timeout=20)
        assert list((site.settings.data_dir / "media").glob("arriving-*")) == []
        disk.free(pid)
        arrived = await site.sandbox.arrival(person, lambda message: message["kind"] == "document", 40)
        assert arrived["media"]["size"] == len(FILE)


@asynccontextmanager
async def _file_server() -> AsyncIterator[str]:
    async def give(_request: web.Request) -> web.Response:
        return web.Response(body=FILE, content_type="application/pdf")

    app = web.Application()
    app.router.add_get("/katalog.pdf", give)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/katalog.pdf"
    finally:
        await runner.cleanup()


async def _struck(site: Site, fault: int) -> None:
    """A send is in flight: the sandbox has it and has not answered yet."""

    async def hits() -> bool:
        found: list[dict[str, Any]] = (await site.sandbox.get("/faults"))["faults"]
        return any(one["id"] == fault and one["hits"] > 0 for one in found)

    await eventually(hits, timeout=20)


async def _answers(callers: Callers, code: str) -> None:
    """All callers get this answer now."""
    async with asyncio.timeout(30):
        while [call.code for call in callers.log[-8:]] != [code] * 8:
            await asyncio.sleep(0.05)


def _count(site: Site) -> int:
    return site.rows(f"SELECT count(*) FROM incoming WHERE text = '{ASKED}'")[0][0]
