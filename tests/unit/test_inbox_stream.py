"""A channel's events on their way into the database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy import func, select
from tests.harness.gateway import PHONE, Harness, open_harness
from tests.sentences import all_english, english

from kurir.inbox import Inbox, stream
from kurir.inbox.inbox import NotStored
from kurir.inbox.tables import incoming
from kurir.messages.channel_reports import (
    ConnectionChanged,
    Event,
    IncomingMedia,
    MediaFetched,
    Received,
    StatusChanged,
)
from kurir.numbers import numbers
from kurir.quarantine import quarantine
from kurir.reasons import NOTHING
from kurir.store.database import DatabaseUnavailable


def received(harness: Harness, remote_id: str) -> Received:
    number = harness.ours.device
    return Received(number.account_id, number.id, remote_id, PHONE, PHONE, "Sari", 1.0, "text", "halo")


async def test_a_channel_may_let_go_of_what_is_committed_and_of_nothing_else(tmp_path: Path, monkeypatch):
    async with open_harness(tmp_path) as harness:
        inbox, tries = harness.gateway.inbox, asyncio.Semaphore(0)
        take, down = inbox.take, True

        async def taken(*arguments) -> int:
            tries.release()
            if down:
                raise DatabaseUnavailable("the database is away")
            return await take(*arguments)

        monkeypatch.setattr(inbox, "take", taken)
        event = received(harness, "3EB0")
        harness.devices.hear(event)
        async with asyncio.timeout(10):
            await tries.acquire()
            await tries.acquire()
            assert harness.devices.let_go == []
            down = False
            while not harness.devices.let_go:
                await asyncio.sleep(0.01)
        assert harness.devices.let_go == [event]
        count = select(func.count()).select_from(incoming).where(incoming.c.remote_id == "3EB0")
        assert await harness.gateway.database.read(lambda c: c.execute(count).scalar_one()) == 1


async def test_what_can_be_neither_stored_nor_quarantined_stays_the_channels_and_is_tried_again(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rights or a column that are missing after an upgrade that was done by half, say."""
    monkeypatch.setattr(stream, "AGAIN", 0.05)
    async with open_harness(tmp_path, database_url=database_url) as harness:
        database = harness.gateway.database
        hide = [f"ALTER TABLE {name} RENAME TO hidden_{name}" for name in ("incoming", "quarantine")]
        show = [f"ALTER TABLE hidden_{name} RENAME TO {name}" for name in ("incoming", "quarantine")]

        async def run(statements: list[str]) -> None:
            await database.write(lambda c: [c.exec_driver_sql(one) for one in statements] and None)

        number = harness.ours.device
        reported = msgspec.structs.replace(received(harness, "3EB0"), entry=7)
        state = ConnectionChanged(number.account_id, number.id, "connected", NOTHING, 5.0)
        # what SQLite calls a missing table is damage, for which everybody waits
        monkeypatch.setattr(database._server, "trouble", lambda _error: None)
        monkeypatch.setattr(database._server, "shows_damage", lambda _error: False)
        await run(hide)
        harness.devices.hear(reported)
        harness.devices.hear(state)
        async with asyncio.timeout(10):
            while harness.devices.let_go != [state]:
                await asyncio.sleep(0.01)
            while not harness.gateway.health.failures():
                await asyncio.sleep(0.01)
            assert "inbox-store inbox" in english(harness.gateway.health.failures()[0])
            await run(show)
            while reported not in harness.devices.let_go:
                await asyncio.sleep(0.01)
        assert harness.devices.let_go == [state, reported]
        assert harness.gateway.health.failures() == []
        count = select(func.count()).select_from(incoming)
        assert await database.read(lambda c: c.execute(count).scalar_one()) == 1


class Poison:
    """Events that can be neither stored nor quarantined while they are in `names`: by id, or a connection's state."""

    def __init__(self, harness: Harness, patch: pytest.MonkeyPatch) -> None:
        self.names: set[str] = set()
        self.tries: Counter[str] = Counter()
        self.transactions = 0
        apply, take = Inbox._apply, Inbox.take

        def poisoned(inbox: Inbox, connection: sa.Connection, event: Event, now: float) -> object:
            name = getattr(event, "remote_id", "") or getattr(event, "state", "")
            self.tries[name] += 1
            if name in self.names:
                raise ValueError("unforeseen")
            return apply(inbox, connection, event, now)

        async def counted(inbox: Inbox, *arguments: Any) -> int:
            self.transactions += 1
            return await take(inbox, *arguments)

        patch.setattr(Inbox, "_apply", poisoned)
        patch.setattr(Inbox, "take", counted)
        patch.setattr(quarantine, "add", lambda *_: 1 / 0)
        patch.setattr(harness.gateway.database._server, "trouble", lambda _error: None)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_what_cannot_be_stored_costs_the_others_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "AGAIN", 3_600.0)
    async with open_harness(tmp_path) as harness:
        poison = Poison(harness, monkeypatch)
        poison.names.add("bad")
        bad = msgspec.structs.replace(received(harness, "bad"), entry=1)
        harness.devices.hear(bad)
        await until(harness.gateway.health.failures)
        tried, poison.transactions = poison.tries["bad"], 0
        good = [msgspec.structs.replace(received(harness, f"good{n}"), entry=n) for n in range(2, 402)]
        for start in range(0, len(good), 100):  # one group after the other, as they come in
            for event in good[start : start + 100]:
                harness.devices.hear(event)
            await until(lambda start=start: len(harness.devices.let_go) == start + 100)
        assert harness.devices.let_go == good
        assert poison.transactions < 100, "whole groups are stored, not each event by itself"
        assert poison.tries["bad"] == tried
        assert harness.gateway.health.failures(), "good ones do not hide it"


async def test_it_is_tried_again_in_time_however_much_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "AGAIN", 0.2)
    async with open_harness(tmp_path) as harness:
        poison = Poison(harness, monkeypatch)
        poison.names.add("bad")
        bad = msgspec.structs.replace(received(harness, "bad"), entry=1)
        harness.devices.hear(bad)
        harness.devices.hear(bad)  # as a host tells it that was started again
        await until(harness.gateway.health.failures)
        poison.names.clear()
        entry, deadline = 2, asyncio.get_running_loop().time() + 20
        while bad not in harness.devices.let_go:  # and never a pause in between
            assert asyncio.get_running_loop().time() < deadline, "it is not tried while others come"
            harness.devices.hear(msgspec.structs.replace(received(harness, f"good{entry}"), entry=entry))
            entry += 1
            await asyncio.sleep(0.005)
        await until(lambda: not harness.gateway.health.failures())
        await until(lambda: len(harness.devices.let_go) == entry - 1)


@pytest.mark.parametrize("recovers", [False, True])
async def test_the_last_state_of_a_number_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, recovers: bool
) -> None:
    """The channel does not say a state twice: dropped, the number would show an older one for good."""
    monkeypatch.setattr(stream, "AGAIN", 0.05)
    async with open_harness(tmp_path) as harness:
        number = harness.ours.device
        poison = Poison(harness, monkeypatch)
        poison.names |= {"connecting", "degraded", "receipt"}

        def state(name: str, jid: str = "") -> ConnectionChanged:
            return ConnectionChanged(number.account_id, number.id, name, NOTHING, 5.0, phone=jid[:5], jid=jid)

        async def shown() -> tuple[str, str]:
            found = await harness.gateway.database.read(lambda c: numbers.by_id(c, number.account_id, number.id))
            assert found is not None
            return found.state, found.jid

        harness.devices.hear(state("connecting", "62899:1@x"))
        harness.devices.hear(StatusChanged(number.account_id, number.id, "receipt", "delivered", 5.0))  # not the last
        await until(lambda: poison.tries["connecting"] > 5)
        harness.devices.hear(state("degraded"))
        await until(lambda: poison.tries["degraded"] > 5)
        before = poison.tries["connecting"]
        if recovers:
            harness.devices.hear(state("replaced"))
            await until(lambda: poison.tries["replaced"])
        await until(lambda: poison.tries["receipt"] > 20)
        assert poison.tries["connecting"] == before, "it is no news any more"
        poison.names.clear()
        await until(lambda: not harness.gateway.health.failures())
        assert await shown() == ("replaced" if recovers else "degraded", "62899:1@x")
        receipts = [event for event in harness.devices.let_go if isinstance(event, StatusChanged)]
        assert [event.remote_id for event in receipts] == ["receipt"]


async def test_a_callback_that_can_be_neither_stored_nor_quarantined_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_harness(tmp_path) as harness:
        inbox = harness.gateway.inbox
        with monkeypatch.context() as patch:
            patch.setattr(Inbox, "_apply", lambda *_: 1 / 0)
            patch.setattr(quarantine, "add", lambda *_: 1 / 0)
            with pytest.raises(NotStored, match="2 events") as caught:
                events = [(received(harness, "A1"), "f1"), (received(harness, "A2"), "f2")]
                await inbox.take_each(events, "body", "callback")
        assert [event for event, _ in events] == caught.value.events
        assert all_english(harness.gateway.health.failures()) == [
            "the task inbox-store callback keeps failing (ZeroDivisionError)"
        ]
        assert await inbox.take_each(events, "body", "callback") == 2, "Meta's repetition is stored"
        assert harness.gateway.health.failures() == []


GROUP = "120363000000000001@g.us"


async def test_members_of_a_group_cannot_take_each_other_s_ids(tmp_path: Path, database_url: str) -> None:
    async with open_harness(tmp_path, database_url=database_url) as harness:
        inbox, number = harness.gateway.inbox, harness.ours.device
        pending = IncomingMedia("image/png", remote_id="VICT1", state="pending")
        siti = Received(number.account_id, number.id, "VICT1", GROUP, "628111", "Siti", 1.0, "image", "bukti", pending)
        budi = msgspec.structs.replace(siti, sender="628222", sender_name="Budi", text="palsu")
        await inbox.take([(siti, ""), (budi, ""), (budi, ""), (siti, "")])  # each comes twice, as after a crash
        theirs = IncomingMedia("image/png", path="/budi.png", remote_id="VICT1", state="stored")
        ours = msgspec.structs.replace(theirs, path="/siti.png")
        of = (number.account_id, number.id, GROUP, "VICT1")
        await inbox.take(
            [(MediaFetched(*of, theirs, sender="628222"), ""), (MediaFetched(*of, ours, sender="628111"), "")]
        )
        columns = (incoming.c.sender, incoming.c.text, incoming.c.media)
        rows = await harness.gateway.database.read(
            lambda c: c.execute(sa.select(*columns).order_by(incoming.c.id)).all()
        )
        found = [(row.sender, row.text, msgspec.json.decode(row.media)["path"]) for row in rows]
        assert found == [("628111", "bukti", "/siti.png"), ("628222", "palsu", "/budi.png")]


async def test_a_sender_whose_number_becomes_known_is_no_second_member(tmp_path: Path, database_url: str) -> None:
    async with open_harness(tmp_path, database_url=database_url) as harness:
        inbox, number = harness.gateway.inbox, harness.ours.device
        pending = IncomingMedia("image/png", remote_id="A1", state="pending")
        hidden = Received(number.account_id, number.id, "A1", GROUP, "2000@lid", "Siti", 1.0, "image", "halo", pending)
        await inbox.take([(hidden, ""), (msgspec.structs.replace(hidden, sender="628111"), "")])
        stored = IncomingMedia("image/png", path="/a.png", remote_id="A1", state="stored")
        fetched = MediaFetched(number.account_id, number.id, GROUP, "A1", stored, sender="628111")
        await inbox.take([(fetched, "")])
        rows = await harness.gateway.database.read(lambda c: c.execute(sa.select(incoming.c.media)).all())
        assert [msgspec.json.decode(row.media)["path"] for row in rows] == ["/a.png"]


async def test_a_message_from_before_the_rule_keeps_its_own_file(tmp_path: Path, database_url: str) -> None:
    """Then the second member's message was dropped, while the journal still has its fetch, or one that names nobody."""
    async with open_harness(tmp_path, database_url=database_url) as harness:
        inbox, number = harness.gateway.inbox, harness.ours.device
        pending = IncomingMedia("image/png", remote_id="OLD1", state="pending")
        row = {"account_id": number.account_id, "number_id": number.id, "chat": GROUP, "remote_id": "OLD1"}
        row |= {"sender": "628111", "kind": "image", "media": msgspec.json.encode(pending).decode()}
        row |= {"at": 1.0, "stored_at": harness.gateway.clock()}
        await harness.gateway.database.write(lambda c: c.execute(incoming.insert().values(row)) and None)

        def fetched(path: str, sender: str) -> MediaFetched:
            stored = IncomingMedia("image/png", path=path, remote_id="OLD1", state="stored")
            return MediaFetched(number.account_id, number.id, GROUP, "OLD1", stored, sender=sender)

        async def files() -> list[tuple[str, str]]:
            rows = await harness.gateway.database.read(
                lambda c: c.execute(sa.select(incoming.c.sender, incoming.c.media).order_by(incoming.c.id)).all()
            )
            return [(row.sender, msgspec.json.decode(row.media, type=IncomingMedia).path) for row in rows]

        await inbox.take([(fetched("/budi.png", "628222"), "")])
        assert await files() == [("628111", "")], "the file of a message that is not there belongs to nobody's"
        budi = Received(number.account_id, number.id, "OLD1", GROUP, "628222", "Budi", 1.0, "image", "palsu", pending)
        await inbox.take([(budi, ""), (fetched("/budi.png", "628222"), ""), (fetched("/siti.png", ""), "")])
        assert await files() == [("628111", "/siti.png"), ("628222", "/budi.png")]
        await inbox.take([(fetched("/other.png", "628111"), ""), (fetched("/other.png", "628222"), "")])
        assert await files() == [("628111", "/siti.png"), ("628222", "/budi.png")], "a file is written down once"
