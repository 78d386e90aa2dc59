"""A stop is not held up by whoever waits: for a pairing, for events, or for an answer of WhatsApp's."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.reliability.site import Site, open_site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
_SOON = 12.0
"""Seconds that this takes on a slow machine at most; whoever waits would hold the stop up for 25 s and more."""


class Operator:
    """Calls of a site's operator API."""

    def __init__(self, site: Site) -> None:
        token = (site.settings.data_dir / "operator.token").read_text(encoding="ascii").strip()
        self._session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"})
        self._url = f"{site.url}/api/v1"

    async def __aenter__(self) -> Operator:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        async with self._session.request(method, self._url + path, json=body) as answer:
            return answer.status, await answer.json()


async def hits(site: Site, fault: int) -> int:
    """How often the sandbox's fault has struck."""
    return next(one for one in (await site.sandbox.get("/faults"))["faults"] if one["id"] == fault)["hits"]


async def stopped(site: Site) -> None:
    assert site.process is not None
    site.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(asyncio.to_thread(site.process.wait, 60), _SOON) == 0, site.explain()


async def test_who_waits_is_answered_at_the_stop(tmp_path: Path) -> None:
    async with open_site(tmp_path, people=1, shops=1) as site, Operator(site) as operator:
        shop = site.shops[0]
        _, added = await operator.ask("POST", f"/accounts/{shop.account_id}/devices", {"name": "Baru"})
        pairing = f"/numbers/{added['key']}/pairing"
        _, shown = await operator.ask("POST", pairing, {})
        assert shown["state"] == "qr"
        ignored = await site.sandbox.post("/faults", {"effect": "ignore_query", "kind": "w:g2"})
        calls = {
            "pairing": operator.ask("GET", f"{pairing}?wait=30"),
            "events": operator.ask("GET", f"/accounts/{shop.account_id}/events?after=0&wait=25&types=otp_guessing"),
            "groups": operator.ask("GET", f"/numbers/{shop.device.key}/groups"),
        }
        waiting = {what: asyncio.ensure_future(call) for what, call in calls.items()}

        async with asyncio.timeout(20):
            while not await hits(site, ignored["id"]):
                await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting.values())
        await stopped(site)
        answers = {what: await task for what, task in waiting.items()}
        assert (answers["pairing"][0], answers["pairing"][1]["state"]) == (200, "qr")
        assert (answers["events"][0], answers["events"][1]["events"]) == (200, [])
        assert answers["groups"][0] == 409
        assert "stopping" in answers["groups"][1]["error"]["message"]


async def test_a_pairing_that_has_nothing_to_show_yet_holds_no_stop_up(tmp_path: Path) -> None:
    """WhatsApp cannot be reached: the first QR code does not come."""
    async with open_site(tmp_path, people=1, shops=1) as site, Operator(site) as operator:
        _, added = await operator.ask("POST", f"/accounts/{site.shops[0].account_id}/devices", {})
        await site.sandbox.post(
            "/faults", {"effect": "hang", "channel": "linked_device", "kind": "connect", "seconds": 60}
        )
        starting = asyncio.ensure_future(operator.ask("POST", f"/numbers/{added['key']}/pairing", {}))

        async def has_begun() -> bool:
            return (await operator.ask("GET", f"/numbers/{added['key']}/pairing"))[1]["state"] == "starting"

        async with asyncio.timeout(10):
            while not await has_begun():
                await asyncio.sleep(0.02)
        await stopped(site)
        status, shown = await starting
        assert (status, shown["state"]) == (201, "starting")
