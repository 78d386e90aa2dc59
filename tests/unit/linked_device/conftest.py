"""A linked-device channel on scripted hosts, with what it told."""

from __future__ import annotations

import asyncio
import hmac
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from kurir.channels.linked_device.channel import LinkedDevices
from kurir.messages.channel_reports import Event, Evidence, Outcome
from kurir.messages.content import Outgoing, Text
from kurir.numbers.numbers import Number
from kurir.reasons import NOTHING
from kurir.settings import Settings

KEY = b"k" * 32
SCRIPT = (sys.executable, str(Path(__file__).with_name("scripted_host.py")))


class Harness:
    """The channel, a few numbers (paired where a session file exists), and the events so far."""

    def __init__(self, folder: Path, **settings: float) -> None:
        self.folder = folder
        self.settings = Settings(data_dir=folder, **settings)  # pyright: ignore[reportArgumentType]
        self.numbers: list[Number] = []
        self.events: list[Event] = []
        self.channel = LinkedDevices(self.settings, KEY, self._list, time.time, SCRIPT)
        self._following: asyncio.Task[None] | None = None

    def number(self, paired: bool) -> Number:
        """A further number."""
        id_ = len(self.numbers) + 1
        jid = f"6281{id_}:1@s.whatsapp.net" if paired else ""
        number = Number(
            id_, 1, f"BO-{id_}", "linked_device", "", "", "disconnected", NOTHING, None, jid, "", "", "", 0.0
        )
        if paired:
            self.session(number)
        self.numbers.append(number)
        return number

    def session(self, number: Number) -> Path:
        """A session file with the engine's table of message secrets."""
        path = self.folder / "devices" / f"{number.key}.db"
        path.parent.mkdir(exist_ok=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE whatsmeow_message_secrets (message_id TEXT, key BLOB)")
        return path

    def leave_trace(self, number: Number, message_id: int, remote_id: str) -> None:
        """What the engine writes before a message goes on the wire."""
        secret = hmac.digest(KEY, f"{message_id}/1".encode(), "sha256")
        path = self.folder / "devices" / f"{number.key}.db"
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT INTO whatsmeow_message_secrets VALUES (?, ?)", (remote_id, secret))

    async def start(self) -> None:
        """Starts the channel."""
        await self.channel.start()
        self._following = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Stops it and collects the last events."""
        await self.channel.close()
        if self._following is not None:
            await self._following

    async def send(self, number: Number, text: str, message_id: int = 1, typing: bool = False) -> Outcome:
        """Sends what the script reads."""
        return await self.channel.send(number, Outgoing(message_id, "62812", Text(text), typing))

    async def evidence(self, number: Number, message_id: int) -> Evidence:
        """What is known of the first try of a message."""
        return await self.channel.evidence(number, Outgoing(message_id, "62812", Text("")))

    async def until(self, condition: Callable[[], bool], timeout: float = 15.0) -> None:
        """Waits for a condition."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, self.events
            await asyncio.sleep(0.01)

    async def connected(self, number: Number) -> None:
        """Waits until a number is connected."""
        await self.until(lambda: self.channel.ready(number))

    async def pid(self, number: Number) -> int:
        """The process its device lives in."""
        (contact,) = await self.channel.contacts(number)
        return int(contact.name)

    async def _list(self) -> list[Number]:
        return self.numbers

    async def _follow(self) -> None:
        async for event in self.channel.events():
            self.events.append(event)


@pytest.fixture
async def make_harness(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Harness]]]:
    """Makes a started desk with `paired` paired numbers and one unpaired one."""
    harnesses: list[Harness] = []

    async def make(paired: int = 1, **settings: float) -> Harness:
        harness = Harness(tmp_path, **settings)
        harnesses.append(harness)
        for _ in range(paired):
            harness.number(paired=True)
        harness.number(paired=False)
        await harness.start()
        for number in harness.numbers[:paired]:
            await harness.connected(number)
        return harness

    yield make
    for harness in harnesses:
        await harness.stop()
