"""Received messages on their way from the engine to the gateway: written first, told, let go when stored."""

from __future__ import annotations

import io
import queue
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import pytest
from google.protobuf.message import Message as Protobuf

from kurir.channels.linked_device.engine import DeviceState, Failed, News, Open
from kurir.channels.linked_device.journal import Journal
from kurir.messages.reports import Received

# neonize runs `uname` through pipes that it does not close when it is imported
with patch("os.popen", lambda _command: io.StringIO("Linux")):
    from kurir.channels.linked_device import protobufs  # noqa: F401  (readies libmagic, which the engine needs)
    from kurir.channels.linked_device.intake import Intake
    from kurir.channels.linked_device.neonize_engine import NeonizeEngine

# isort: split
from neonize.exc import NeonizeError
from neonize.proto.Neonize_pb2 import JID
from neonize.proto.Neonize_pb2 import Message as MessageEvent
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

SITI = "6281234567801"
PATIENCE = 10


@dataclass
class Device:
    """The device behind an intake: it knows every phone, and has media while `media` is set."""

    media: bytes = b""
    complaints: list[str] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)

    def phone(self, *jids: JID) -> str:
        return next(jid.User for jid in jids if jid.User)

    def download(self, message: Message) -> bytes:
        self.asked.set()
        if not self.media:
            raise NeonizeError("not connected")
        return self.media

    def complain(self, what: str) -> None:
        self.complaints.append(what)


class Desk:
    """An intake, its device, and what it told; `reopen` is what a restarted host does."""

    def __init__(self, folder: Path) -> None:
        self.device = Device()
        self.told: queue.Queue[News] = queue.Queue()
        self.order = Open(7, 1, "", str(folder / "incoming"), str(folder / "journals" / "7.db"))
        self.intake = self._open()

    def _open(self) -> Intake:
        intake = Intake(self.order, self.device, self.told.put, 1_000_000)
        intake.start()
        return intake

    def reopen(self) -> None:
        self.intake.close()
        self.told = queue.Queue()
        self.intake = self._open()

    def next(self) -> Received:
        told = self.told.get(timeout=PATIENCE)
        assert isinstance(told, Received)
        return told

    def kept(self) -> int:
        """How many messages are in the file, as another process sees it."""
        with closing(sqlite3.connect(self.order.journal)) as file:
            return file.execute("SELECT count(*) FROM received").fetchone()[0]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.intake.close()


def test_what_was_told_but_not_stored_is_told_again_by_the_next_host(desk: Desk):
    desk.intake.online(connected=True)
    for n in range(3):
        desk.intake.take(text(f"id{n}"))
    told = [desk.next() for _ in range(3)]
    assert [(one.remote_id, one.chat, one.text) for one in told] == [(f"id{n}", SITI, "halo") for n in range(3)]
    desk.intake.stored([(SITI, "id1")])
    desk.reopen()
    desk.intake.online(connected=True)
    assert [desk.next().remote_id for _ in range(2)] == ["id0", "id2"]
    desk.intake.stored([(SITI, "id0"), (SITI, "id2")])
    assert desk.kept() == 0


def test_nothing_is_read_before_the_device_is_connected_yet_all_is_written(desk: Desk):
    for n in range(200):
        desk.intake.take(text(f"id{n}"))
    assert desk.kept() == 200
    assert desk.told.empty()
    desk.intake.online(connected=True)
    assert [desk.next().remote_id for _ in range(200)] == [f"id{n}" for n in range(200)]


def test_a_gateway_that_is_behind_holds_up_the_reading_and_not_the_writing(tmp_path: Path):
    order = Open(7, 1, "", str(tmp_path), str(tmp_path / "7.db"))
    behind, told = threading.Event(), queue.Queue()

    def tell(news: News) -> None:
        assert behind.wait(PATIENCE)
        told.put(news)

    intake = Intake(order, Device(), tell, 1_000_000)
    intake.start()
    intake.online(connected=True)
    for n in range(500):
        intake.take(text(f"id{n}"))
    behind.set()
    assert [told.get(timeout=PATIENCE).remote_id for _ in range(500)] == [f"id{n}" for n in range(500)]
    intake.close()


def test_what_is_no_message_leaves_no_trace(desk: Desk):
    desk.intake.online(connected=True)
    desk.intake.take(event("key", Message()))
    desk.intake.take(text("id1"))
    assert desk.next().remote_id == "id1"
    assert desk.kept() == 1


def test_media_that_a_cut_kept_away_come_when_the_device_is_back(desk: Desk):
    desk.intake.online(connected=True)
    desk.intake.take(text("first"))
    assert desk.next().remote_id == "first"
    desk.intake.online(connected=False)
    desk.intake.take(picture("picture"))
    assert desk.device.asked.wait(PATIENCE)
    assert desk.told.empty()
    desk.device.media = b"\x89PNG"
    desk.intake.online(connected=True)
    told = desk.next()
    assert told.media is not None
    assert Path(told.media.path).read_bytes() == b"\x89PNG"


def test_a_device_that_closes_while_media_are_awaited_tells_the_message_next_time(desk: Desk):
    desk.intake.online(connected=True)
    desk.intake.take(text("first"))
    desk.intake.stored([(SITI, desk.next().remote_id)])
    desk.intake.online(connected=False)
    desk.intake.take(picture("picture"))
    assert desk.device.asked.wait(PATIENCE)
    desk.reopen()
    desk.device.media = b"\x89PNG"
    desk.intake.online(connected=True)
    told = desk.next()
    assert (told.remote_id, told.media and told.media.size) == ("picture", 4)


def test_a_journal_that_cannot_be_opened_says_so(tmp_path: Path):
    (tmp_path / "7.db").write_bytes(b"no database at all" * 100)
    told: list[News] = []
    engine = NeonizeEngine(told.append, 1_000_000)
    answer = engine.perform(Open(7, 1, str(tmp_path / "session"), str(tmp_path / "incoming"), str(tmp_path / "7.db")))
    assert isinstance(answer, Failed)
    (state,) = told
    assert isinstance(state, DeviceState)
    assert (state.device, state.state, state.retry_after) == (7, "disconnected", 30.0)
    assert state.reason.endswith(
        "/7.db cannot be opened (file is not a database): make room on the disk, or move a damaged file away"
    )


def test_a_closed_journal_wakes_its_reader(tmp_path: Path):
    journal = Journal(tmp_path / "7.db")
    found: queue.Queue[object] = queue.Queue()
    threading.Thread(target=lambda: found.put(journal.after(0)), daemon=True).start()
    journal.close()
    assert found.get(timeout=PATIENCE) is None


def picture(remote_id: str) -> MessageEvent:
    message = Message()
    message.imageMessage.mimetype = "image/png"
    message.imageMessage.fileLength = 4
    return event(remote_id, message)


def text(remote_id: str) -> MessageEvent:
    return event(remote_id, Message(conversation="halo"))


def event(remote_id: str, message: Message) -> MessageEvent:
    """What the engine tells of a message from Siti."""
    told = MessageEvent()
    complete(told)
    told.Info.ID = remote_id
    source = told.Info.MessageSource
    for jid in (source.Chat, source.Sender):
        jid.User, jid.Server, jid.IsEmpty = SITI, "s.whatsapp.net", False
    told.Message.CopyFrom(message)
    return told


def complete(message: Protobuf) -> None:
    """Gives every required field the value it has by default."""
    for one in message.DESCRIPTOR.fields:
        if one.is_required:
            if one.message_type is not None:
                getattr(message, one.name).SetInParent()
                complete(getattr(message, one.name))
            else:
                setattr(message, one.name, one.default_value)
