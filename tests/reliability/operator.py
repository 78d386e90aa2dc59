"""What an operator sees and does at a running site: the devices' states, pairing, and the engine hosts' processes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
from tests.reliability.site import Shop, Site

from kurir.channels.linked_device.hosts import ARGV
from kurir.kit.ids import parse_message_id

HOST = ARGV[-1].encode()  # the engine hosts' program, as their command line names it


class Operator:
    """One with the site's token. `site` may be killed and started again meanwhile."""

    def __init__(self, site: Site, session: aiohttp.ClientSession) -> None:
        self.site = site
        self._session = session
        token = (site.settings.data_dir / "operator.token").read_text(encoding="ascii").strip()
        self._headers = {"Authorization": f"Bearer {token}"}

    async def numbers(self) -> dict[str, dict[str, Any]]:
        """All numbers by key."""
        async with self._session.get(f"{self.site.url}/api/v1/numbers", headers=self._headers) as answer:
            return {one["key"]: one for one in (await answer.json())["numbers"]}

    async def device(
        self, shop: Shop, holds: Callable[[dict[str, Any]], bool], timeout: float = 30.0
    ) -> dict[str, Any]:
        """A shop's device once it is as wanted."""
        seen: dict[str, Any] = {}
        try:
            async with asyncio.timeout(timeout):
                while not holds(seen := (await self.numbers())[shop.device.key]):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"the device is still {seen}\n{self.site.explain()}") from None
        return seen

    async def becomes(self, shop: Shop, state: str, timeout: float = 30.0) -> dict[str, Any]:
        """A shop's device once it is in a state."""
        return await self.device(shop, lambda one: one["state"] == state, timeout)

    async def all_connected(self, timeout: float = 60.0) -> None:
        """Waits until every device is connected."""
        for shop in self.site.shops:
            await self.becomes(shop, "connected", timeout)

    async def pair(self, shop: Shop) -> None:
        """Pairs a shop's device by QR code with the phone that owned it before."""
        address = f"{self.site.url}/api/v1/numbers/{shop.device.key}/pairing"
        async with self._session.post(address, headers=self._headers, json={}) as answer:
            view = await answer.json()
            assert answer.status == 201, view
        async with asyncio.timeout(30):
            while view["state"] not in {"qr", "paired"}:
                async with self._session.get(f"{address}?wait=5", headers=self._headers) as answer:
                    view = await answer.json()
        if view["state"] == "qr":
            await self.site.sandbox.post("/scan", {"phone": shop.device_phone, "qr": view["qr"]})

    async def send(self, shop: Shop, person: str, text: str) -> int:
        """Hands a message for a shop's device in, as its program does; returns its internal id."""
        body = {"api_key": shop.api_key, "number_id": shop.device.key, "phone_no": person, "message": text}
        async with self._session.post(f"{self.site.url}/public/v1/send_personal_message", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return parse_message_id(answer.headers["X-Message-Id"])

    async def state(self, message: int, *wanted: str, timeout: float = 30.0) -> str:
        """A message's state, once it is a wanted one."""
        found = ""
        try:
            async with asyncio.timeout(timeout):
                while not (found := await asyncio.to_thread(self._state, message)) or (wanted and found not in wanted):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"the message is {found!r}, not {wanted}\n{self.site.explain()}") from None
        return found

    def _state(self, message: int) -> str:
        path = self.site.settings.sqlite_path
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT state FROM messages WHERE id = ?", (message,)).fetchone()
        return row[0] if row else ""

    async def metric(self, name: str) -> float:
        """A figure of /metrics."""
        async with self._session.get(f"{self.site.url}/metrics") as answer:
            found = re.search(rf"^{re.escape(name)} (\S+)$", await answer.text(), re.MULTILINE)
        assert found, name
        return float(found[1])

    async def logins(self, shop: Shop | None = None) -> int:
        """Begins to count a shop's logins at the sandbox, or everybody's; returns the count's id."""
        fault: dict[str, Any] = {"effect": "refuse_login", "reason": 503, "probability": 0}
        if shop is not None:
            fault["number"] = shop.device_phone
        return (await self.site.sandbox.post("/faults", fault))["id"]

    async def seen(self, fault: int) -> int:
        """How many occasions a fault has seen: of `logins`, the logins."""
        return next(one for one in (await self.site.sandbox.get("/faults"))["faults"] if one["id"] == fault)["seen"]

    async def jid(self, shop: Shop) -> str:
        """The JID of a shop's device, as the sandbox knows it."""
        return next(d["jid"] for d in await self.site.sandbox.get("/devices") if d["phone"] == shop.device_phone)

    async def times_on(self, person: str, text: str) -> int:
        """How often a text reached a phone."""
        return (await self.site.sandbox.get(f"/ledger?phone={person}&text={text}&limit=100"))["count"]


@asynccontextmanager
async def operating(site: Site) -> AsyncIterator[Operator]:
    """An operator of the site."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=40)) as session:
        yield Operator(site, session)


def hosts(site: Site) -> list[int]:
    """The engine hosts of the site's gateway."""
    assert site.process is not None
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == site.process.pid and HOST in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def kill_a_host(site: Site, choice: Callable[[list[int]], int] = min) -> None:
    """SIGKILL to one of the engine hosts; waits for one to be there."""
    deadline = time.monotonic() + 30
    while not (found := hosts(site)):
        assert time.monotonic() < deadline, "no engine host"
        time.sleep(0.02)
    os.kill(choice(found), signal.SIGKILL)
    site.kills += 1
