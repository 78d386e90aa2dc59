"""The WhatsApp Web wire over one data folder, with people on it and real engines as linked devices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.e2e.sandbox_engine.driver import Engine

from kurir_sandbox.ledger import Ledger
from kurir_sandbox.media_files import MediaFiles
from kurir_sandbox.phones import Phones
from kurir_sandbox.traffic import Content, Entry
from kurir_sandbox.web_protocol.server import WebNetwork
from kurir_sandbox.world import World

OWNER, ALICE, BOB, OTHER, ABSENT = (
    "6281234500001",
    "6281234500002",
    "6281234500003",
    "6281234500004",
    "6281234500005",
)


class Sandbox:
    """World, phones and wire over one data folder; can be restarted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engines: list[Engine] = []

    async def start(self) -> Sandbox:
        self.world = World(self.folder / "data")
        self.ledger = Ledger(self.folder / "data", MediaFiles(self.folder / "data" / "media"))
        self.phones = Phones(self.ledger)
        self.web = WebNetwork(self.world, self.phones, self.folder / "data")
        self.phones.attach({"linked_device": self.web})
        await self.web.start()
        return self

    async def stop(self) -> None:
        await self.phones.stop()
        await self.web.stop()
        await self.ledger.close()
        self.world.close()

    async def engine(self, name: str) -> Engine:
        engine = Engine(self.web, self.folder / f"{name}.db")
        self.engines.append(engine)
        return await engine.start()

    async def linked(self, name: str, phone: str) -> Engine:
        """An engine that is linked to `phone` by QR and connected."""
        engine = await self.engine(name)
        await self.web.scan(phone, await engine.event("qr"))
        await engine.event("Connected")
        return engine

    async def entry(self, phone: str, matches: Callable[[Entry], bool], within: float = 10.0) -> Entry:
        """The first ledger entry on `phone` that `matches`."""
        deadline = asyncio.get_running_loop().time() + within
        after = 0
        while True:
            left = deadline - asyncio.get_running_loop().time()
            assert left > 0, f"nothing on {phone}: {self.phones.activities(phone)}"
            for record in await self.phones.inbox(phone, after, wait=left):
                after = record.id
                entry = self.ledger.entry(record.id)
                if entry and matches(entry):
                    return entry

    async def arrived(self, phone: str, text: str) -> Entry:
        return await self.entry(phone, lambda e: e.arrival.content.text == text)


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Sandbox]:
    """A started sandbox with its people; all engines are killed at the end."""
    sandbox = await Sandbox(folder).start()
    for phone, name in ((OWNER, "Owner"), (ALICE, "Alice"), (BOB, "Bob"), (OTHER, "Other")):
        sandbox.world.add_person(phone, name)
    sandbox.world.add_person(ABSENT, "Absent", on_whatsapp=False)
    try:
        yield sandbox
    finally:
        for engine in sandbox.engines:
            await engine.kill()
        await sandbox.stop()


async def until(met: Callable[[], Any], within: float = 10.0) -> Any:
    """What `met` returns as soon as it is true."""
    deadline = asyncio.get_running_loop().time() + within
    while not (found := met()):
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)
    return found


def text(words: str) -> Content:
    return Content("text", text=words, bubble=words)


def conversation(words: str) -> Callable[[Any], bool]:
    return lambda event: event["Message"].get("conversation") == words
