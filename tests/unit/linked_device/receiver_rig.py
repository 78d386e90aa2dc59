"""A device's intake without an engine: events go in, what the gateway would be told comes out."""

from __future__ import annotations

import io
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from google.protobuf.message import Message as Protobuf

from kurir.channels.linked_device.protocol import News, Notice, Open, decode_upward, sound_frame
from kurir.messages.channel_reports import MediaFetched, Quarantined, Received, StatusChanged

# neonize runs `uname` through pipes that it does not close when it is imported
with patch("os.popen", lambda _command: io.StringIO("Linux")):
    from kurir.channels.linked_device.engine_host import protobufs  # noqa: F401  (readies libmagic, which the engine needs)
    from kurir.channels.linked_device.engine_host.media_fetches import Limits
    from kurir.channels.linked_device.engine_host.receiver import Receiver

# isort: split
from neonize.events import ReceiptEv
from neonize.exc import NeonizeError
from neonize.proto.Neonize_pb2 import JID
from neonize.proto.Neonize_pb2 import Message as MessageEvent
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

OURS = "6281100000001"
SITI = "6281234567801"
TIMEOUT = 10
SOON = (0.01,) * 4
"""Pauses between tries of a fetch, for tests."""


@dataclass
class Device:
    """The device behind an intake: it knows every phone; `download` is what its engine does."""

    failures: list[str] = field(default_factory=list)
    downloads: int = 0
    fetch: Callable[[Message], bytes] = lambda _: b"\x89PNG"

    def phone(self, *jids: JID) -> str:
        return next((jid.User for jid in jids if jid.User), "")

    def download(self, message: Message) -> bytes:
        self.downloads += 1
        return self.fetch(message)

    def report(self, what: str, _kind: str = "") -> None:
        self.failures.append(what)


class ReceiverRig:
    """An intake, its device, and what it told, as the gateway reads it; `reopen` is what a restarted host does."""

    def __init__(self, folder: Path, *, seconds: float = 60.0, pauses: tuple[float, ...] = SOON) -> None:
        self.device = Device()
        self.reported: queue.Queue[News] = queue.Queue()
        self.limits = Limits(1_000_000, seconds, pauses, threading.BoundedSemaphore(64), look_again=0.02)
        self.order = self.opening(folder, f"{OURS}:1@s.whatsapp.net")
        self.receiver = self.open()

    @staticmethod
    def opening(folder: Path, jid: str) -> Open:
        return Open(7, 1, "", str(folder / "incoming"), str(folder / "journals" / "7.db"), jid)

    def open(self) -> Receiver:
        receiver = Receiver(self.order, self.device, self.emit, self.limits)
        receiver.start()
        return receiver

    def reopen(self) -> None:
        self.receiver.close()
        self.reported = queue.Queue()
        self.receiver = self.open()

    def emit(self, news: News) -> bool:
        upward = decode_upward(sound_frame(Notice(news))[4:])
        assert isinstance(upward, Notice)
        self.reported.put(upward.news)
        return True

    def next(self) -> News:
        return self.reported.get(timeout=TIMEOUT)

    def received(self) -> Received:
        return self._of(Received)

    def fetched(self) -> MediaFetched:
        return self._of(MediaFetched)

    def receipt(self) -> StatusChanged:
        return self._of(StatusChanged)

    def quarantined(self) -> Quarantined:
        return self._of(Quarantined)

    def store(self, *news: News) -> None:
        """What the gateway says after its commit."""
        self.receiver.stored([entry for one in news if (entry := getattr(one, "entry", 0))])

    def kept(self, kind: str = "") -> int:
        """How many entries are in the file, as another process sees it."""
        with closing(sqlite3.connect(self.order.journal)) as file:
            return file.execute("SELECT count(*) FROM received WHERE ? IN ('', kind)", (kind,)).fetchone()[0]

    def _of(self, kind):
        reported = self.next()
        assert isinstance(reported, kind), reported
        return reported


def text(remote_id: str, body: str = "halo") -> MessageEvent:
    return event(remote_id, Message(conversation=body))


def picture(remote_id: str) -> MessageEvent:
    message = Message()
    message.imageMessage.mimetype = "image/png"
    message.imageMessage.fileLength = 4
    return event(remote_id, message)


def receipt(*remote_ids: str) -> ReceiptEv:
    reported = ReceiptEv()
    complete(reported)
    reported.MessageIDs.extend(remote_ids)
    reported.Type = ReceiptEv.DELIVERED
    reported.MessageSource.Sender.User, reported.MessageSource.Sender.Server = SITI, "s.whatsapp.net"
    return reported


def event(remote_id: str, message: Message) -> MessageEvent:
    """What the engine tells of a message from Siti."""
    reported = MessageEvent()
    complete(reported)
    reported.Info.ID = remote_id
    source = reported.Info.MessageSource
    for jid in (source.Chat, source.Sender):
        jid.User, jid.Server, jid.IsEmpty = SITI, "s.whatsapp.net", False
    reported.Message.CopyFrom(message)
    return reported


def complete(message: Protobuf) -> None:
    """Gives every required field the value it has by default."""
    for one in message.DESCRIPTOR.fields:
        if one.is_required:
            if one.message_type is not None:
                getattr(message, one.name).SetInParent()
                complete(getattr(message, one.name))
            else:
                setattr(message, one.name, one.default_value)


def refused(_message: Message) -> bytes:
    raise NeonizeError("failed to get media connection")
