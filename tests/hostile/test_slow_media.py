"""Media that hang, crawl or never come delay no message of anybody, and nothing but themselves."""

from __future__ import annotations

import base64
import itertools
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.e2e.device_rig import Rig, number, png
from tests.e2e.sandbox_network import eventually, start_sandbox
from tests.harness.gateway import open_harness
from tests.unit.linked_device.receiver_rig import ReceiverRig, picture, text

from kurir.channels.linked_device.engine_host import media_fetches
from kurir.channels.linked_device.protocol import Notice, decode_upward, sound_frame
from kurir.kit.url_rules import Allowed
from kurir.messages.channel_reports import IncomingMedia, MediaFetched, Quarantined, Received
from kurir.webhooks.endpoints import add

# isort: split
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

SITI, BUDI = "6281234567801", "6281234567802"


class Hanging:
    """An engine whose downloads hang until they are let go; counts how many do."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.now = 0
        self.most = 0
        self._lock = threading.Lock()

    def __call__(self, message: Message) -> bytes:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.go_on.wait()
        with self._lock:
            self.now -= 1
        return b"late"


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.go_on.set()


def test_messages_pass_any_number_of_hanging_downloads_whose_threads_are_bounded(tmp_path: Path, hanging: Hanging):
    rig = ReceiverRig(tmp_path, seconds=0.05, pauses=(0.01,) * 50)
    rig.device.fetch = hanging
    rig.receiver.online(connected=True)
    for n in range(30):
        rig.receiver.take(picture(f"p{n}"))
        rig.receiver.take(text(f"t{n}"))
        reported = [rig.received(), rig.received()]
        assert [one.remote_id for one in reported] == [f"p{n}", f"t{n}"]
        rig.store(*reported)
    most = media_fetches.SLOTS + media_fetches.HANGING
    _until(lambda: hanging.now >= media_fetches.HANGING)
    for _ in range(60):  # twelve time limits: no more may come on top
        rig.receiver._fetches.look()
        time.sleep(0.01)
    assert hanging.most <= most
    began = time.monotonic()
    rig.receiver.close()
    assert time.monotonic() - began < 2


def test_what_came_too_late_is_used_all_the_same(tmp_path: Path, hanging: Hanging):
    rig = ReceiverRig(tmp_path, seconds=0.05, pauses=(60.0,) * 4)
    rig.device.fetch = hanging
    rig.receiver.online(connected=True)
    rig.receiver.take(picture("p"))
    rig.store(rig.received())
    _until(lambda: hanging.now == 1)
    time.sleep(0.2)
    hanging.go_on.set()
    fetched = rig.fetched()
    assert fetched.media.state == "stored"
    assert Path(fetched.media.path).read_bytes() == b"late"
    rig.receiver.close()


def test_a_hanging_download_does_not_keep_others_of_the_device_away(tmp_path: Path, hanging: Hanging):
    rig = ReceiverRig(tmp_path, seconds=0.2, pauses=(60.0,) * 4)

    def fetch(message: Message) -> bytes:
        return hanging(message) if message.imageMessage.caption == "hangs" else b"here"

    rig.device.fetch = fetch
    rig.receiver.online(connected=True)
    for n in range(media_fetches.SLOTS):
        bad = picture(f"bad{n}")
        bad.Message.imageMessage.caption = "hangs"
        rig.receiver.take(bad)
        rig.store(rig.received())
    _until(lambda: hanging.now == media_fetches.SLOTS)
    rig.receiver.take(picture("good"))
    rig.store(rig.received())
    assert rig.fetched().remote_id == "good"
    rig.receiver.close()


def test_all_devices_of_a_process_share_one_limit(tmp_path: Path, hanging: Hanging):
    rigs = [ReceiverRig(tmp_path / str(n), seconds=0.02) for n in range(3)]
    limit = threading.BoundedSemaphore(5)
    for rig in rigs:
        rig.receiver.close()
        rig.limits = rig.limits._replace(calls=limit)
        rig.device.fetch = hanging
        rig.receiver = rig.open()
        rig.receiver.online(connected=True)
        for n in range(6):
            rig.receiver.take(picture(f"p{n}"))
            rig.store(rig.received())
    _until(lambda: hanging.now == 5)
    time.sleep(0.3)
    assert hanging.most == 5
    for rig in rigs:
        rig.receiver.close()


def test_a_download_during_which_processes_end_is_put_off_and_given_up(tmp_path: Path, hanging: Hanging):
    """The next try is put off before this one is made, so that a host comes up between them."""
    rig = ReceiverRig(tmp_path, pauses=(0.5, 0.5))
    seen: list[float] = []

    def fetch(message: Message) -> bytes:
        seen.append(time.monotonic())
        return hanging(message)

    rig.device.fetch = fetch
    rig.receiver.online(connected=True)
    rig.receiver.take(picture("p"))
    rig.store(rig.received())
    for life in (1, 2, 3):
        _until(lambda life=life: len(seen) == life)
        rig.reopen()  # the process ended in the middle of it
        rig.receiver.online(connected=True)
    assert rig.fetched().media.state == "gone"
    assert len(seen) == 3
    # the pause counts from before the try, whose thread may begin a little later
    assert all(later - earlier >= 0.3 for earlier, later in itertools.pairwise(seen))
    rig.receiver.close()


def pictures_to_fetch(rig: ReceiverRig, *names: str) -> list[int]:
    """Stored messages whose media wait for the device to be online; returns their entries."""
    # only the reading thread may go on: were the fetches online too, even for a moment, one could begin here
    rig.receiver._online.set()
    for name in names:
        rig.receiver.take(picture(name))
    reported = [rig.received() for _ in names]
    rig.receiver.online(connected=False)
    rig.store(*reported)
    return [one.entry for one in reported]


def spoil(rig: ReceiverRig, entries: list[int], **columns: object) -> None:
    """Changes the entries in the file, as a damaged disk or an earlier release may."""
    values = ", ".join(f"{name} = ?" for name in columns)
    with closing(sqlite3.connect(rig.order.journal)) as file, file:
        for entry in entries:
            file.execute(f"UPDATE received SET {values} WHERE id = ?", (*columns.values(), entry))


@pytest.mark.parametrize(
    "hopeless",
    [{"owner": "628999"}, {"at": 1.0}, {"tries": 9}, {}],
    ids=["another phone's", "old", "tried", "not yet hopeless"],
)
def test_an_entry_that_cannot_be_read_is_quarantined_and_keeps_no_other_waiting(tmp_path: Path, hopeless: dict):
    rig = ReceiverRig(tmp_path)
    *bad, good = pictures_to_fetch(rig, "p0", "p1", "p2", "good")
    spoil(rig, bad, event=b"\xff\xff no protobuf", **hopeless)
    rig.receiver.online(connected=True)
    reported = [rig.next() for _ in range(4)]
    (fetched,) = [one for one in reported if isinstance(one, MediaFetched)]
    assert (fetched.remote_id, fetched.entry) == ("good", good)
    quarantined = [one for one in reported if isinstance(one, Quarantined)]
    assert sorted(one.entry for one in quarantined) == bad
    assert {one.payload for one in quarantined} == {b"\xff\xff no protobuf"}
    assert "DecodeError" in quarantined[0].reason
    rig.store(*reported)
    assert rig.kept() == 0
    rig.receiver.close()


@pytest.mark.parametrize("refused", [(MediaFetched, 1), (Quarantined, 1), (Quarantined, 5)], ids=str)
def test_what_could_not_be_reported_of_media_is_reported_in_another_way_or_later(
    tmp_path: Path, refused: tuple[type, int]
):
    rig = ReceiverRig(tmp_path, pauses=(0.01,) * 50)
    (entry,) = pictures_to_fetch(rig, "p")
    kind, left = refused
    emit, count = rig.emit, itertools.count(1)
    whats: list[str] = []

    def refuse(news) -> bool:
        whats.append(type(news).__name__)
        if isinstance(news, MediaFetched):
            return kind is not MediaFetched and emit(news)
        return not (isinstance(news, kind) and next(count) <= left) and emit(news)

    if kind is Quarantined:
        spoil(rig, [entry], event=b"\xff", owner="628999")
    rig.receiver._fetches._emit = refuse
    rig.receiver.online(connected=True)
    quarantined = rig.quarantined()
    assert quarantined.entry == entry
    assert whats.count("Quarantined") == (1 if kind is MediaFetched else left + 1)
    rig.store(quarantined)
    assert rig.kept() == 0
    rig.receiver.close()


def test_a_thread_that_cannot_be_had_delays_media_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rig = ReceiverRig(tmp_path)
    pictures_to_fetch(rig, "p")
    spawn, left = media_fetches.threads.spawn, [1, 1]

    def scarce(*arguments):
        if left:
            left.pop()
            raise RuntimeError("can't start new thread")
        return spawn(*arguments)

    monkeypatch.setattr(media_fetches.threads, "spawn", scarce)
    rig.receiver.online(connected=True)
    assert rig.fetched().media.state == "stored"
    rig.receiver.close()


@pytest.mark.e2e
async def test_on_the_real_engine_texts_come_at_once_and_the_picture_when_it_can(tmp_path: Path):
    (tmp_path / "sandbox").mkdir()
    sandbox = start_sandbox(tmp_path / "sandbox")
    try:
        owner, other = await sandbox.person("Toko Lambat"), await sandbox.person("Toko Tetangga")
        numbers = [number(1), number(2)]
        async with Rig(sandbox, tmp_path / "data", *numbers, incoming_media_timeout=3.0) as rig:
            await rig.pair(owner)
            await rig.pair(other, 1)
            fault = {"effect": "hang", "channel": "linked_device", "kind": "download", "seconds": 120, "count": 20}
            await sandbox.post("/faults", fault)
            body = {"to": owner, "image": {"data": base64.b64encode(png()).decode()}}
            image = await sandbox.post(f"/people/{SITI}/messages", body)
            first = await rig.event(Received, lambda e: e.remote_id == image["wire_id"])
            assert first.media is not None
            assert first.media.state == "pending"
            for sender, to in ((SITI, owner), (BUDI, owner), (SITI, other)):
                wrote = await sandbox.post(f"/people/{sender}/messages", {"to": to, "text": "Masih buka?"})
                await rig.event(Received, lambda e, wrote=wrote: e.remote_id == wrote["wire_id"])
            assert not [e for e in rig.events if isinstance(e, MediaFetched)]
            began = time.monotonic()
        assert time.monotonic() - began < 15, "the stop does not wait for what hangs"
        await sandbox.delete("/faults")
        again = [number(1, jid=rig.numbers[0].jid, state="connected")]
        async with Rig(sandbox, tmp_path / "data", *again, incoming_media_timeout=3.0) as rig:
            fetched = await rig.event(MediaFetched, lambda e: e.remote_id == image["wire_id"], timeout=40)
            assert fetched.media.state == "stored"
            assert _content(fetched) == png()
            await eventually(lambda: rig.devices.device_stats().journal_entries == 0)
    finally:
        sandbox.stop()


async def test_what_became_of_media_is_stored_once_and_reported_to_those_who_asked(where: Path | str, tmp_path: Path):
    async with open_harness(tmp_path, database_url=where if isinstance(where, str) else "") as harness:
        ours, inbox = harness.ours.device, harness.gateway.inbox
        ids = (ours.account_id, ours.id)

        def listen(connection, *events) -> None:
            add(
                connection,
                harness.gateway.sealing,
                ours.account_id,
                f"https://shop.example/{'-'.join(events)}",
                allowed=_nothing(),
                now=1.0,
                events=events,
            )

        await harness.gateway.database.write(lambda c: listen(c, "incoming_chat"))
        await harness.gateway.database.write(lambda c: listen(c, "media_status"))
        pending = IncomingMedia("image/png", "foto.png", "", 4, "A", "pending")
        stored = IncomingMedia("image/png", "foto.png", "/incoming/x.png", 4, "A", "stored")
        message = Received(*ids, "A", SITI, SITI, "Siti", 1.0, "image", media=pending)
        await inbox.take([(MediaFetched(*ids, SITI, "unknown", stored), ""), (message, "")])
        await inbox.take([(MediaFetched(*ids, SITI, "A", stored), "")])
        gone = IncomingMedia("image/png", "foto.png", "", 4, "A", "gone")
        await inbox.take([(message, ""), (MediaFetched(*ids, SITI, "A", gone), "")])
        rows = await harness.gateway.database.read(
            lambda c: [
                list(c.exec_driver_sql("SELECT media FROM incoming").scalars()),
                list(c.exec_driver_sql("SELECT type, body FROM events ORDER BY id").all()),
            ]
        )
        assert len(rows[0]) == 1
        assert '"state":"stored"' in rows[0][0]
        assert [row[0] for row in rows[1]] == ["incoming_chat", "media_status"]
        assert '"status":"stored"' in rows[1][1][1]
        assert '"message_id":"A"' in rows[1][1][1]


def test_the_media_state_travels():
    news = Notice(MediaFetched(1, 7, SITI, "A", IncomingMedia("image/png", state="gone"), 3))
    assert decode_upward(sound_frame(news)[4:]) == news


def _content(fetched: MediaFetched) -> bytes:
    return Path(fetched.media.path).read_bytes()


def _nothing() -> Allowed:
    return Allowed.parse(["127.0.0.0/8"])


def _until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
