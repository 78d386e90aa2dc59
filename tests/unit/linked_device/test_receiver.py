"""Received messages on their way from the engine to the gateway: written first, told, let go when stored."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.sentences import english
from tests.unit.linked_device.receiver_rig import (
    OURS,
    SITI,
    TIMEOUT,
    Device,
    ReceiverRig,
    event,
    picture,
    receipt,
    refused,
    text,
)

from kurir.channels.linked_device.engine_host.engine import NeonizeEngine
from kurir.channels.linked_device.engine_host.journal import Backlog, Journal, read_backlog
from kurir.channels.linked_device.engine_host.receiver import Receiver
from kurir.channels.linked_device.protocol import DeviceState, Failed, News, Unread
from kurir.kit.disk_reserve import DiskReserve
from kurir.messages.channel_reports import Received
from kurir.reasons import read, sentence

# isort: split
from neonize.exc import NeonizeError
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ReceiverRig]:
    rig = ReceiverRig(tmp_path)
    yield rig
    rig.receiver.close()


def test_what_was_reported_but_not_stored_is_reported_again_by_the_next_host(rig: ReceiverRig):
    rig.receiver.online(connected=True)
    for n in range(3):
        rig.receiver.take(text(f"id{n}"))
    reported = [rig.received() for _ in range(3)]
    assert [(one.remote_id, one.chat, one.text) for one in reported] == [(f"id{n}", SITI, "halo") for n in range(3)]
    rig.store(reported[1])
    rig.reopen()
    rig.receiver.online(connected=True)
    reported = [rig.received() for _ in range(2)]
    assert [one.remote_id for one in reported] == ["id0", "id2"]
    rig.store(*reported)
    assert rig.kept() == 0


def test_nothing_is_read_before_the_device_is_connected_yet_all_is_written(rig: ReceiverRig):
    for n in range(200):
        rig.receiver.take(text(f"id{n}"))
    assert rig.kept() == 200
    assert rig.reported.empty()
    rig.receiver.online(connected=True)
    assert [rig.received().remote_id for _ in range(200)] == [f"id{n}" for n in range(200)]


def test_a_gateway_that_is_behind_holds_up_the_reading_and_not_the_writing(rig: ReceiverRig):
    behind, reported = threading.Event(), queue.Queue()

    def emit(news: News) -> bool:
        assert behind.wait(TIMEOUT)
        reported.put(news)
        return True

    rig.receiver.close()
    receiver = Receiver(rig.order, Device(), emit, rig.limits)
    receiver.start()
    receiver.online(connected=True)
    for n in range(500):
        receiver.take(text(f"id{n}"))
    assert receiver.backlog().entries == 500
    behind.set()
    assert [reported.get(timeout=TIMEOUT).remote_id for _ in range(500)] == [f"id{n}" for n in range(500)]
    receiver.close()


def test_a_gateway_killed_while_it_was_behind_quarantines_nothing(tmp_path: Path):
    rig = ReceiverRig(tmp_path)
    rig.receiver.close()
    reached = threading.Semaphore(0)
    never = threading.Event()

    def stuck(_news: News) -> bool:
        reached.release()
        never.wait()
        return True

    for _ in range(5):  # each life of the host ends while the gateway takes nothing
        receiver = Receiver(rig.order, Device(), stuck, rig.limits)
        receiver.start()
        if not rig.kept():
            receiver.take(text("id1"))
        receiver.online(connected=True)
        assert reached.acquire(timeout=TIMEOUT)
        receiver._journal.close()
    rig.receiver = rig.open()
    rig.receiver.online(connected=True)
    assert rig.received().remote_id == "id1"
    rig.receiver.close()


def test_what_is_no_message_is_named_and_leaves_no_entry(rig: ReceiverRig):
    rig.receiver.online(connected=True)
    rig.receiver.take(event("key", Message()))
    rig.receiver.take(text("id1"))
    assert rig.next() == Unread(7, "empty")
    assert rig.received().remote_id == "id1"
    assert rig.kept() == 1


def test_a_receipt_survives_until_it_is_stored(rig: ReceiverRig):
    rig.receiver.take_receipt(receipt("3EB0A", "3EB0B"))
    rig.reopen()
    rig.receiver.online(connected=True)
    reported = [rig.receipt(), rig.receipt()]
    assert [(one.remote_id, one.status, one.person) for one in reported] == [
        ("3EB0A", "delivered", SITI),
        ("3EB0B", "delivered", SITI),
    ]
    rig.store(reported[0])
    assert rig.kept() == 1, "the other one is not stored yet"
    rig.store(reported[1])
    assert rig.kept() == 0


def test_media_come_after_their_message_is_stored(rig: ReceiverRig):
    rig.receiver.online(connected=True)
    rig.receiver.take(picture("picture"))
    message = rig.received()
    assert message.media is not None
    assert (message.media.state, message.media.path) == ("pending", "")
    assert rig.device.downloads == 0
    rig.store(message)
    fetched = rig.fetched()
    assert (fetched.chat, fetched.remote_id, fetched.media.state) == (SITI, "picture", "stored")
    assert Path(fetched.media.path).read_bytes() == b"\x89PNG"
    assert rig.kept("fetch") == 1, "what became of it is not stored yet"
    rig.store(fetched)
    assert rig.kept() == 0


def test_media_that_fail_are_tried_again_also_by_the_next_host_and_given_up(rig: ReceiverRig):
    rig.device.fetch = refused
    rig.receiver.online(connected=True)
    rig.receiver.take(picture("picture"))
    rig.store(rig.received())
    _until(lambda: rig.device.downloads >= 2)
    rig.reopen()
    rig.receiver.online(connected=True)
    fetched = rig.fetched()
    assert (fetched.media.state, fetched.media.path, fetched.media.mime) == ("gone", "", "image/png")
    assert rig.device.downloads == len(rig.limits.pauses) + 1
    rig.store(fetched)
    assert rig.kept() == 0


def test_media_wait_for_room_on_the_disk(rig: ReceiverRig, monkeypatch: pytest.MonkeyPatch):
    """What is announced is not even fetched; what is larger than announced leaves nothing behind."""
    room, asked = 0, 0

    def look(_reserve: DiskReserve) -> int:
        nonlocal asked
        asked += 1
        return room

    monkeypatch.setattr(DiskReserve, "room", look)
    rig.limits = rig.limits._replace(no_room_pause=0.01)
    rig.reopen()
    rig.receiver.online(connected=True)
    rig.receiver.take(picture("picture"))
    rig.store(rig.received())
    _until(lambda: asked > len(rig.limits.pauses) + 1)
    assert rig.device.downloads == 0
    assert rig.kept("fetch") == 1
    assert rig.device.failures == ["received files wait: the disk is nearly full"]
    rig.device.fetch = lambda _: b"\x89PNG and more"
    room = 5
    _until(lambda: rig.device.downloads > 0)
    _until(lambda: not list(Path(rig.order.incoming).glob("*")))
    room = 100
    assert rig.fetched().media.state == "stored"


def test_media_without_room_for_a_day_are_gone_for_that_reason(rig: ReceiverRig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(DiskReserve, "room", lambda _: 0)
    rig.limits = rig.limits._replace(longest=0.2, no_room_pause=0.01)
    rig.reopen()
    rig.receiver.online(connected=True)
    rig.receiver.take(picture("picture"))
    rig.store(rig.received())
    fetched = rig.fetched()
    assert (fetched.media.state, sentence(read(fetched.media.reason), "en")) == (
        "gone",
        "the disk of this gateway was nearly full",
    )
    assert rig.device.downloads == 0


@pytest.mark.parametrize("words", ["no url present", "download failed with status code 404"])
def test_media_that_nobody_has_are_given_up_at_once(rig: ReceiverRig, words: str):
    def gone(_message: Message) -> bytes:
        raise NeonizeError(words)

    rig.device.fetch = gone
    rig.receiver.online(connected=True)
    rig.receiver.take(picture("picture"))
    rig.store(rig.received())
    assert rig.fetched().media.state == "gone"
    assert rig.device.downloads == 1


def test_an_engine_that_does_not_answer_holds_no_fetch_up_and_the_sender_is_known(
    rig: ReceiverRig, monkeypatch: pytest.MonkeyPatch
):
    """What a fetch says of its message was noted when that came in."""
    hangs = threading.Event()

    def phone(*_jids: object) -> str:
        hangs.wait(60)
        return "somebody else"

    rig.receiver.online(connected=False)
    for name in ("old", "new"):
        rig.receiver.take(picture(name))
    rig.receiver.online(connected=True)
    messages = [rig.received(), rig.received()]
    rig.receiver.online(connected=False)
    rig.store(*messages)
    _until(lambda: rig.kept("fetch") == 2)
    with closing(sqlite3.connect(rig.order.journal)) as file, file:
        file.execute("UPDATE received SET tries = 100 WHERE id = ?", (messages[0].entry,))
    monkeypatch.setattr(rig.device, "phone", phone)
    try:
        rig.receiver.online(connected=True)
        ends = {one.remote_id: one for one in (rig.fetched(), rig.fetched())}
    finally:
        hangs.set()
    assert {name: (one.media.state, one.sender) for name, one in ends.items()} == {
        "old": ("gone", messages[0].sender),
        "new": ("stored", messages[1].sender),
    }
    assert messages[0].sender == SITI


def test_media_wait_for_the_connection(rig: ReceiverRig):
    rig.receiver.online(connected=True)
    rig.receiver.take(picture("picture"))
    message = rig.received()
    rig.receiver.online(connected=False)
    rig.store(message)
    _until(lambda: rig.kept("fetch") == 1)
    assert rig.device.downloads == 0
    rig.receiver.online(connected=True)
    assert rig.fetched().media.state == "stored"


def test_what_an_earlier_pairing_with_another_phone_left_is_quarantined(rig: ReceiverRig):
    rig.receiver.take(text("before"))
    rig.order = ReceiverRig.opening(Path(rig.order.incoming).parent, "6289900000009:3@s.whatsapp.net")
    rig.reopen()
    rig.receiver.take(text("after"))
    rig.receiver.online(connected=True)
    quarantined = rig.quarantined()
    assert (quarantined.queue, quarantined.number_id) == ("journal", 7)
    assert "another phone" in quarantined.reason
    assert quarantined.payload == text("before").SerializeToString()
    assert rig.received().remote_id == "after"
    rig.store(quarantined)
    assert rig.kept() == 1


def test_the_same_phone_paired_anew_gets_what_was_left(rig: ReceiverRig):
    rig.receiver.take(text("before"))
    rig.order = ReceiverRig.opening(Path(rig.order.incoming).parent, f"{OURS}:9@s.whatsapp.net")
    rig.reopen()
    rig.receiver.online(connected=True)
    assert rig.received().remote_id == "before"


def test_what_came_before_the_phone_was_known_belongs_to_it(tmp_path: Path):
    rig = ReceiverRig(tmp_path)
    rig.order = ReceiverRig.opening(tmp_path, "")
    rig.reopen()
    rig.receiver.take(text("first"))
    rig.receiver.paired(OURS)
    rig.receiver.online(connected=True)
    assert rig.received().remote_id == "first"
    rig.order = ReceiverRig.opening(tmp_path, "6289900000009:3@s.whatsapp.net")
    rig.reopen()
    rig.receiver.online(connected=True)
    assert rig.quarantined().queue == "journal"
    rig.receiver.close()


def test_a_closing_device_does_not_drop_what_the_disk_refuses(rig: ReceiverRig, monkeypatch):
    """The engine acknowledges what it could hand over: it may not go on before the connection is down."""
    refusing = True
    append = rig.receiver._journal.append

    def full(*arguments) -> None:
        if refusing:
            raise sqlite3.OperationalError("database or disk is full")
        append(*arguments)

    monkeypatch.setattr(rig.receiver._journal, "append", full)
    taken = threading.Event()

    def take() -> None:
        rig.receiver.take(text("id1"))
        taken.set()

    threading.Thread(target=take, daemon=True).start()
    _until(lambda: bool(rig.device.failures))
    rig.receiver.closing()
    assert not taken.wait(0.3)  # a tenth of it would do
    refusing = False
    assert taken.wait(TIMEOUT)
    assert rig.kept() == 1


def test_a_closed_device_lets_the_engine_go(rig: ReceiverRig, monkeypatch):
    def full(*_arguments) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(rig.receiver._journal, "append", full)
    taken = threading.Thread(target=lambda: rig.receiver.take(text("id1")), daemon=True)
    taken.start()
    _until(lambda: bool(rig.device.failures))
    rig.receiver.close()
    taken.join(TIMEOUT)
    assert not taken.is_alive()


def test_the_backlog_is_reported_with_its_age(rig: ReceiverRig):
    assert rig.receiver.backlog() == Backlog(0, None)
    rig.receiver.take(text("id1"))
    rig.receiver.take_receipt(receipt("3EB0"))
    backlog = rig.receiver.backlog()
    assert backlog.entries == 2
    assert backlog.oldest_at is not None
    assert abs(time.time() - backlog.oldest_at) < 60
    assert read_backlog(Path(rig.order.journal)) == backlog


def test_a_journal_of_an_earlier_release_is_read(tmp_path: Path):
    rig = ReceiverRig(tmp_path)
    rig.receiver.close()
    Path(rig.order.journal).unlink()
    with sqlite3.connect(rig.order.journal) as file:
        file.execute("CREATE TABLE received (id INTEGER PRIMARY KEY AUTOINCREMENT, event BLOB NOT NULL)")
        file.execute("INSERT INTO received (event) VALUES (?)", (text("old").SerializeToString(),))
    file.close()
    assert read_backlog(Path(rig.order.journal)).entries == 1
    rig.receiver = rig.open()
    rig.receiver.online(connected=True)
    old = rig.received()
    assert isinstance(old, Received)
    rig.store(old)
    assert rig.kept() == 0
    rig.receiver.close()


def test_a_journal_that_cannot_be_opened_says_so(tmp_path: Path):
    (tmp_path / "7.db").write_bytes(b"no database at all" * 100)
    reported: list[News] = []

    def emit(news: News) -> bool:
        reported.append(news)
        return True

    engine = NeonizeEngine(emit, 1_000_000)
    order = ReceiverRig.opening(tmp_path, "")
    order = type(order)(7, 1, str(tmp_path / "session"), order.incoming, str(tmp_path / "7.db"))
    answer = engine.perform(order)
    assert isinstance(answer, Failed)
    (state,) = [one for one in reported if isinstance(one, DeviceState)]
    assert (state.device, state.state, state.retry_after) == (7, "disconnected", 30.0)
    assert english(state.reason).endswith(
        "/7.db cannot be opened (the file is damaged): make room on the disk, or move a damaged file away"
    )


def test_a_closed_journal_ends_the_wait_of_its_reader(tmp_path: Path):
    journal = Journal(tmp_path / "7.db")
    found: queue.Queue[object] = queue.Queue()
    threading.Thread(target=lambda: found.put(journal.after(0)), daemon=True).start()
    journal.close()
    assert found.get(timeout=TIMEOUT) is None


def _until(condition) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
