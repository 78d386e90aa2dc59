"""What the gateway does not take of a device's journal is neither lost nor counted as done, and its media do not stay
pending for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from tests.harness.gateway import Harness, open_harness, quarantined
from tests.hostile.test_slow_media import pictures_to_fetch, spoil
from tests.unit.linked_device.receiver_rig import SITI, ReceiverRig, picture, receipt, refused, text

from kurir.channels.linked_device.engine_host import media_fetches
from kurir.channels.linked_device.engine_host import receiver as receiver_module
from kurir.channels.linked_device.protocol import News, Unread
from kurir.inbox import event_of
from kurir.inbox import inbox as inbox_module
from kurir.inbox.tables import incoming
from kurir.kit.url_rules import Allowed
from kurir.messages.channel_reports import IncomingMedia, MediaFetched, Quarantined, Received, StatusChanged
from kurir.quarantine.quarantine import Entry
from kurir.reasons import read, sentence
from kurir.webhooks.endpoints import add

Refuses = Callable[[News], bool]


def refusing(folder: Path, refuses: Refuses) -> tuple[ReceiverRig, list[bool]]:
    """A rig whose gateway does not take what `refuses` says, until the list is emptied."""
    rig, on = ReceiverRig(folder), [True]
    rig.receiver.close()
    emit = rig.emit
    rig.emit = lambda news: not (on and refuses(news)) and emit(news)
    rig.receiver = rig.open()
    return rig, on


@pytest.mark.parametrize("what", [text("bad"), picture("bad")], ids=["text", "picture"])
def test_a_message_that_was_quarantined_is_done_and_nothing_is_fetched_of_it(tmp_path: Path, what: Any) -> None:
    rig, _ = refusing(tmp_path, lambda news: isinstance(news, Received) and news.remote_id == "bad")
    rig.receiver.online(connected=True)
    rig.receiver.take(what)
    rig.store(rig.quarantined())
    assert rig.kept() == 0
    rig.receiver.take(text("good"))
    assert rig.received().remote_id == "good"
    assert rig.device.downloads == 0
    rig.receiver.close()


@pytest.mark.parametrize("what", [text("bad"), picture("bad")], ids=["text", "picture"])
def test_what_can_neither_be_reported_nor_quarantined_stays_and_comes_again(tmp_path: Path, what: Any) -> None:
    def refuses(news: News) -> bool:
        return isinstance(news, Quarantined) or (isinstance(news, Received) and news.remote_id == "bad")

    rig, on = refusing(tmp_path, refuses)
    rig.receiver.online(connected=True)
    rig.receiver.take(what)
    rig.receiver.take(text("good"))
    good = rig.received()
    assert good.remote_id == "good", "it holds nobody up"
    rig.store(good)
    assert rig.kept() == 1
    assert any("stays in the journal" in line for line in rig.device.failures)
    on.clear()
    rig.reopen()
    rig.receiver.online(connected=True)
    assert rig.received().remote_id == "bad"
    rig.receiver.close()


@pytest.mark.parametrize("refused_id", ["a", "b", "c"])
def test_a_receipt_of_which_a_part_is_not_taken_is_not_let_go(tmp_path: Path, refused_id: str) -> None:
    def refuses(news: News) -> bool:
        return isinstance(news, Quarantined) or (isinstance(news, StatusChanged) and news.remote_id == refused_id)

    rig, on = refusing(tmp_path, refuses)
    rig.receiver.online(connected=True)
    rig.receiver.take_receipt(receipt("a", "b", "c"))
    rig.receiver.take(text("behind"))
    while not isinstance(reported := rig.next(), Received):
        rig.store(reported)
    rig.store(reported)
    assert rig.kept("receipt") == 1
    on.clear()
    rig.reopen()
    rig.receiver.online(connected=True)
    assert [rig.receipt().remote_id for _ in range(3)] == ["a", "b", "c"]
    rig.receiver.close()


def test_what_is_read_while_the_device_closes_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what is only counted: it is not forgotten before it was told."""
    others = set(threading.enumerate())
    rig = ReceiverRig(tmp_path)

    def closes(*_: object) -> str:
        rig.receiver.closing()
        return "peer"

    with monkeypatch.context() as patch:
        patch.setattr(receiver_module, "read_message", closes)
        rig.receiver.take(text("A"))
        rig.receiver.online(connected=True)
        for thread in set(threading.enumerate()) - others:
            if thread.name == "receiver-7":
                thread.join(10)
    rig.receiver.close()
    assert rig.kept() == 1
    assert rig.reported.empty()
    monkeypatch.setattr(receiver_module, "read_message", lambda *_: "peer")
    rig.reopen()
    rig.receiver.online(connected=True)
    reported = rig.next()
    assert isinstance(reported, Unread)
    assert reported.kind == "peer"
    rig.receiver.close()


# -- media whose fetch was quarantined ---------------------------------------------------------------------------------


class Ward:
    """A gateway's inbox behind a device's intake; webhooks want to know of media."""

    def __init__(self, harness: Harness, rig: ReceiverRig) -> None:
        self.harness = harness
        self.rig = rig

    async def store(self, *news: Any) -> None:
        """The gateway takes what the device told, as of its own number."""
        ours = self.harness.ours.device

        def as_ours(event: Any) -> Any:
            changes = {"account_id": ours.account_id, "number_id": ours.id}
            if getattr(event, "fetch", None) is not None:
                changes["fetch"] = as_ours(event.fetch)
            return msgspec.structs.replace(event, **changes)

        await self.harness.gateway.inbox.take_each([(as_ours(one), "") for one in news])
        self.rig.store(*news)

    async def media(self) -> IncomingMedia:
        (found,) = await self.harness.gateway.database.read(lambda c: c.scalars(sa.select(incoming.c.media)).all())
        return msgspec.json.decode(found, type=IncomingMedia)

    async def reported(self) -> list[dict[str, Any]]:
        query = "SELECT body FROM events WHERE type = 'media_status' ORDER BY id"
        bodies = await self.harness.gateway.database.read(lambda c: c.exec_driver_sql(query).scalars().all())
        return [msgspec.json.decode(body)["data"] for body in bodies]

    async def quarantined(self) -> list[Entry]:
        return await self.harness.gateway.database.read(quarantined)


@pytest.fixture
async def ward(where: Path | str, tmp_path: Path) -> Any:
    async with open_harness(tmp_path / "gateway", database_url=where if isinstance(where, str) else "") as harness:
        ours = harness.ours.device

        def listen(connection: sa.Connection) -> None:
            address = "https://shop.example/hook"
            sealing, events = harness.gateway.sealing, ("media_status",)
            add(
                connection,
                sealing,
                ours.account_id,
                address,
                allowed=Allowed.parse(["127.0.0.0/8"]),
                now=1.0,
                events=events,
            )

        await harness.gateway.database.write(listen)
        rig = ReceiverRig(tmp_path / "device")
        yield Ward(harness, rig)
        rig.receiver.close()


async def pending(ward: Ward) -> int:
    """A stored picture whose media are not fetched yet; returns its entry."""
    ward.rig.receiver.online(connected=True)
    ward.rig.receiver.take(picture("p"))
    message = ward.rig.received()
    ward.rig.receiver.online(connected=False)
    await ward.store(message)
    assert (await ward.media()).state == "pending"
    return message.entry


@pytest.mark.parametrize("spoilt", [{}, {"owner": "628999"}, {"at": 1.0}], ids=["spoilt", "another phone's", "old"])
async def test_media_whose_fetch_cannot_be_read_are_gone(ward: Ward, spoilt: dict[str, Any]) -> None:
    entry = await pending(ward)
    spoil(ward.rig, [entry], event=b"\xff\xff no protobuf", **spoilt)
    ward.rig.receiver.online(connected=True)
    await ward.store(ward.rig.quarantined())
    media = await ward.media()
    assert (media.state, media.mime) == ("gone", "image/png")
    assert "kurir quarantine list" in sentence(read(media.reason), "en")
    (body,) = await ward.reported()
    assert (body["status"], body["message_id"], body["reason"]) == ("gone", "p", sentence(read(media.reason), "en"))
    assert [one.queue for one in await ward.quarantined()] == ["journal"]
    assert ward.rig.kept() == 0


async def test_a_replay_that_succeeds_stores_media_that_were_gone(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    await pending(ward)
    with monkeypatch.context() as patch:
        patch.setattr(media_fetches.MediaFetches, "_begin", lambda *_: 1 / 0)
        ward.rig.receiver.online(connected=True)
        await ward.store(ward.rig.quarantined())
    assert (await ward.media()).state == "gone"
    (entry,) = await ward.quarantined()
    ward.rig.receiver.replay(entry.payload)
    await ward.store(ward.rig.received())
    await ward.store(ward.rig.fetched())
    media = await ward.media()
    assert media.state == "stored"
    assert media.path
    assert [body["status"] for body in await ward.reported()] == ["gone", "stored"]
    assert ward.rig.kept() == 0


async def test_a_replay_that_fails_again_leaves_them_gone(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = await pending(ward)
    spoil(ward.rig, [entry], event=b"\xff\xff no protobuf")
    ward.rig.receiver.online(connected=True)
    await ward.store(ward.rig.quarantined())
    (kept,) = await ward.quarantined()
    ward.rig.receiver.replay(kept.payload)
    again = ward.rig.quarantined()
    assert again.fetch is None
    await ward.store(again)
    assert (await ward.media()).state == "gone"
    assert len(await ward.quarantined()) == 1


@pytest.mark.parametrize("state", ["stored", "gone"])
async def test_what_became_of_media_and_cannot_be_stored_leaves_them_gone(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    await pending(ward)
    if state == "gone":
        ward.rig.device.fetch = lambda _: b""
    ward.rig.receiver.online(connected=True)
    fetched = ward.rig.fetched()
    assert fetched.media.state == state
    original = inbox_module.store_media
    broken = [1] * 5  # twice in its group, which is run again with savepoints, then three times alone

    def breaks(connection: sa.Connection, event: MediaFetched, now: float) -> None:
        if broken:
            broken.pop()
            raise ValueError("unforeseen")
        original(connection, event, now)

    with monkeypatch.context() as patch:
        patch.setattr(inbox_module, "store_media", breaks)
        await ward.store(fetched)
    media = await ward.media()
    assert (media.state, media.path) == ("gone", "")
    assert media.reason
    (entry,) = await ward.quarantined()
    assert entry.queue == "inbox"
    await ward.harness.gateway.inbox.take([(event_of(entry.payload), "")])
    assert (await ward.media()).state == state


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda rig: setattr(rig.device, "fetch", lambda _: b""), "empty"),
        (lambda rig: setattr(rig.device, "fetch", lambda _: bytes(2_000_000)), "larger"),
        (lambda rig: setattr(rig.device, "fetch", refused), "within a day"),
    ],
    ids=["empty", "large", "late"],
)
def test_media_that_are_gone_say_why(tmp_path: Path, make: Callable[[ReceiverRig], None], words: str) -> None:
    rig = ReceiverRig(tmp_path)
    make(rig)
    pictures_to_fetch(rig, "p")
    rig.receiver.online(connected=True)
    fetched = rig.fetched()
    assert fetched.media.state == "gone"
    assert words in sentence(read(fetched.media.reason), "en")
    assert fetched.chat == SITI
    rig.receiver.close()
