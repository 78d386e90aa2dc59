"""A stranger fills the disk with files until they are refused, and texts go on. Run by `test_disk_reserve`.

What was refused, received or to be sent, comes when there is room again.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from tests.harness.webhooks import eventually
from tests.reliability.callers_view import is_ready
from tests.reliability.site import Site, open_site
from tests.reliability.site_actions import DEVICE, OFFICIAL, call, send
from tests.reliability.small_disk import here

from kurir.kit.disk_reserve import DiskReserve

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
SIZE = 5_000_000
FILES = 6
ROOM = 24_000_000
"""Bytes that are free at first: not enough for all of the stranger's files."""


async def test_files_stop_where_texts_need_the_disk(tmp_path: Path):
    disk = here()
    async with open_site(tmp_path / "site", people=6, shops=1, data_dir=disk.folder / "gateway") as site:
        assert site.process is not None
        shop, stranger = site.shops[0], site.people[0]
        disk.fill(site.process.pid, ROOM)
        reserve = DiskReserve(site.settings.data_dir, 0)
        for _ in range(FILES):
            await _stranger_sends(site, stranger, os.urandom(SIZE))
        await eventually(lambda: _logged(site, "received_files_deferred"), timeout=60)
        await eventually(lambda: _under_way(site), 0, timeout=60)
        states = await asyncio.to_thread(_states, site)
        assert len(states) == FILES
        assert "stored" in states, "files are taken while there is room"
        assert "pending" in states, "and wait when there is none"
        assert "gone" not in states
        free = os.statvfs(disk.folder)
        assert free.f_bavail * free.f_frsize > reserve.size() // 2, "what files leave is for the database"
        assert list((site.settings.data_dir / "incoming").rglob("*.part")) == []

        assert await is_ready(site)
        for channel, person in ((DEVICE, site.people[1]), (OFFICIAL, site.people[2])):
            answered = await send(site, shop, channel, person, f"teks {channel}")
            assert answered is not None
            assert answered.status == 200
            await site.sandbox.arrival(person, lambda m, channel=channel: m["text"] == f"teks {channel}", 30)
        await site.sandbox.post(f"/people/{stranger}/messages", {"to": shop.device_phone, "text": "masih ada?"})
        asked = "SELECT count(*) FROM incoming WHERE text = 'masih ada?'"
        await eventually(lambda: asyncio.to_thread(site.rows, asked), [(1,)], timeout=30)

        async with aiohttp.ClientSession() as session, _serving() as (url, counts):
            await _files_to_send_wait(site, url, counts)
            async with session.get(site.url + "/metrics") as answer:
                reported = re.search(r"^kurir_room_for_files_bytes ([\d.e+]+)$", await answer.text(), re.M)
            assert reported is not None
            assert float(reported[1]) < SIZE
            assert site.explain().count("outgoing_files_deferred") == 1
            disk.free(site.process.pid)
            for person in site.people[3:5]:
                arrived = await site.sandbox.arrival(person, lambda message: message["kind"] == "document", 60)
                assert arrived["media"]["size"] == SIZE
        await eventually(lambda: asyncio.to_thread(_states, site), ["stored"] * FILES, timeout=90)


async def _stranger_sends(site: Site, stranger: str, file: bytes) -> None:
    document = {"data": base64.b64encode(file).decode(), "mime": "application/pdf", "name": "a.pdf"}
    body = io.BytesIO(json.dumps({"to": site.shops[0].device_phone, "document": document}).encode())
    url, headers = f"{site.sandbox.url}/people/{stranger}/messages", {"Content-Type": "application/json"}
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
        assert answer.status < 300, await answer.text()


async def _files_to_send_wait(site: Site, url: str, counts: list[str]) -> None:
    """On both channels; whether the server says how much comes or not."""
    shop = site.shops[0]
    fields = {"file_url": f"{url}/announced.pdf", "messageType": "document", "fileName": "a.pdf"}
    await call(site, shop, "send_personal_file", {"number_id": shop.device.key, "phone_no": site.people[3], **fields})
    official = {"licenses_key": shop.official.key, "reciptient": site.people[4], "file_url": f"{url}/silent.pdf"}
    await call(site, shop, "send_meta_personal_message", official)
    waiting = "SELECT state, error_code, attempts FROM messages WHERE content LIKE '%.pdf%'"
    wanted = [("queued", "media_not_stored", 0)] * 2
    await eventually(lambda: asyncio.to_thread(site.rows, waiting), wanted, timeout=30)
    assert sorted(set(counts)) == ["announced.pdf", "silent.pdf"]
    assert list((site.settings.data_dir / "media").glob("arriving-*")) == []


class _serving:  # noqa: N801 - used like a function
    """A server of one file under any name; without its length where the name says so."""

    async def __aenter__(self) -> tuple[str, list[str]]:
        asked: list[str] = []
        body = b"%PDF-1.4\n" + os.urandom(SIZE - 9)

        async def give(request: web.Request) -> web.StreamResponse:
            asked.append(request.match_info["name"])
            if request.match_info["name"] == "announced.pdf":
                return web.Response(body=body, content_type="application/pdf")
            answer = web.StreamResponse(headers={"Content-Type": "application/pdf"})
            answer.enable_chunked_encoding()
            await answer.prepare(request)
            await answer.write(body)
            return answer

        app = web.Application()
        app.router.add_get("/{name}", give)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}", asked

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


def _states(site: Site) -> list[str]:
    rows = site.rows("SELECT media FROM incoming WHERE kind = 'document'")
    return sorted(json.loads(row[0])["state"] if isinstance(row[0], str) else row[0]["state"] for row in rows)


async def _under_way(site: Site) -> int:
    """Files of the stranger that are not told of yet, and whose message is, so long as there is room for them."""
    states = await asyncio.to_thread(_states, site)
    room = DiskReserve(site.settings.data_dir, 0).room()
    return FILES - len(states) if room < SIZE else FILES


async def _logged(site: Site, event: str) -> bool:
    return event in site.explain()
