"""A linked-device channel in the sandbox, and what it tells, as tests wait for it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image as Picture
from tests.e2e.sandbox_network import SandboxNetwork, eventually

from kurir.channels.linked_device.channel import LinkedDevices
from kurir.messages.channel_reports import ConnectionChanged, Event, Outcome
from kurir.messages.content import Content, MediaFile, Outgoing
from kurir.numbers.numbers import Number
from kurir.reasons import NOTHING

E = TypeVar("E", bound=Event)
KEY = bytes(range(32))
_ids = itertools.count(1)


def number(id_: int = 1, **values: Any) -> Number:
    """A linked-device number as the database would give it."""
    row: dict[str, Any] = {
        "id": id_,
        "account_id": 7,
        "key": f"BO-{id_:016d}",
        "channel": "linked_device",
        "phone": "",
        "name": "",
        "state": "disconnected",
        "state_reason": NOTHING,
        "last_connected_at": None,
        "jid": "",
        "phone_number_id": "",
        "waba_id": "",
        "app_id": "",
        "created_at": 0.0,
    }
    return Number(**{**row, **values})


class Rig:
    """A channel over one data folder, with everything it told in `events`."""

    def __init__(self, sandbox: SandboxNetwork, data_dir: Path, *numbers: Number, **settings: Any) -> None:
        self.sandbox = sandbox
        self.data_dir = data_dir
        self.numbers = list(numbers) or [number()]
        self.settings = sandbox.settings(data_dir, **settings)
        self.events: list[Event] = []
        self.devices = LinkedDevices(self.settings, KEY, self._list, time.time)
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Rig:
        await self.devices.start()
        self._following = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.devices.close()
        assert self._following is not None
        await self._following

    async def _list(self) -> list[Number]:
        return self.numbers

    async def _follow(self) -> None:
        async for event in self.devices.events():
            self.events.append(event)
            self.devices.stored([event])

    async def pair(self, phone: str, index: int = 0) -> Number:
        """Pairs a number with `phone` by QR and waits until it is connected; returns it as it is stored then."""
        unpaired = self.numbers[index]
        progress = await self.devices.start_pairing(unpaired)
        await eventually(lambda: bool(progress.qr), what="a QR code")
        await self.sandbox.post("/scan", {"phone": phone, "qr": progress.qr})
        return await self.connected(index)

    async def connected(self, index: int = 0) -> Number:
        """Waits until a number is connected; returns it as it is stored then."""
        wanted = self.numbers[index]
        await eventually(lambda: self.devices.ready(wanted), 30, what=f"connected: {self.devices.state(wanted)}")
        reported = await self.event(ConnectionChanged, lambda e: e.number_id == wanted.id and e.state == "connected")
        self.numbers[index] = number(
            wanted.id, key=wanted.key, phone=reported.phone, jid=reported.jid, state="connected"
        )
        return self.numbers[index]

    async def send(self, to: str, content: Content, media: MediaFile | None = None, typing: bool = False) -> Outcome:
        """Sends from the first number."""
        return await self.devices.send(self.numbers[0], Outgoing(next(_ids), to, content, typing, media))

    async def event(self, kind: type[E], matches: Callable[[E], bool], timeout: float = 15.0) -> E:
        """The first event of a kind that `matches`, waiting for it."""

        def found() -> list[E]:
            return [event for event in self.events if isinstance(event, kind) and matches(event)]

        await eventually(lambda: bool(found()), timeout, what=f"{kind.__name__} among {self.events}")
        return found()[0]


def png(colour: str = "teal", size: tuple[int, int] = (320, 200)) -> bytes:
    """A picture."""
    buffer = io.BytesIO()
    Picture.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def stored(folder: Path, data: bytes, mime: str, name: str) -> MediaFile:
    """A media file on disk as the gateway's media store would have left it."""
    digest = hashlib.sha256(data).hexdigest()
    path = folder / digest
    path.write_bytes(data)
    return MediaFile(str(path), mime, name, len(data), digest)
