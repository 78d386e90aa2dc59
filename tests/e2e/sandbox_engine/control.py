"""The sandbox as a process, used through its control API alone, with real engines as linked devices."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from tests.e2e.sandbox_engine.driver import Engine
from tests.e2e.sandbox_network import SandboxNetwork

OWNER, OTHER = "6281100000001", "6281100000002"
SITI, BUDI, DEWI = "6281234567801", "6281234567802", "6281234567803"


class Control:
    """A running sandbox and the engines on it."""

    def __init__(self, network: SandboxNetwork, folder: Path) -> None:
        self.network, self._folder = network, folder
        self.engines: list[Engine] = []
        self.ca_file, self.proxy_url = network.info["ca_file"], network.info["proxy_url"]
        self.noise_root = bytes.fromhex(network.info["noise_root"])

    async def engine(self, name: str) -> Engine:
        """A running engine; one that was linked under this name before is so again."""
        engine = Engine(self, self._folder / f"{name}.db")
        self.engines.append(engine)
        return await engine.start()

    async def linked(self, name: str, phone: str = OWNER) -> Engine:
        """An engine that is linked to `phone` by QR and connected."""
        engine = await self.engine(name)
        await self.network.post("/scan", {"phone": phone, "qr": await engine.event("qr")})
        await engine.event("Connected")
        return engine

    async def write(self, sender: str, **body: Any) -> str:
        """A person sends a message, to the owner unless said otherwise; returns its wire id."""
        body = body if "group" in body or "to" in body else {"to": OWNER, **body}
        return (await self.network.post(f"/people/{sender}/messages", body))["wire_id"]

    async def device(self, phone: str = OWNER) -> str:
        """The JID of the (latest) linked device of `phone`."""
        return [d["jid"] for d in await self.network.get("/devices") if d["phone"] == phone][-1]

    async def refused(self, path: str, body: Any) -> tuple[int, str]:
        """The status and the field at fault of a POST that must not work."""
        async with aiohttp.ClientSession() as session, session.post(self.network.url + path, json=body) as response:
            answer = await response.json()
            assert response.status >= 400, answer
            return response.status, answer["error"]["field"]


@asynccontextmanager
async def control(network: SandboxNetwork, folder: Path) -> AsyncIterator[Control]:
    """`network` as it was at its start, and engines with their files in `folder`, which are ended at the end."""
    await network.post("/reset", {"all": True})
    rig = Control(network, folder)
    try:
        yield rig
    finally:
        for engine in rig.engines:
            await engine.kill()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
