"""Events and messages that cannot be processed are quarantined whole, with the reason, and everything else goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from tests.harness.gateway import PHONE, Harness, open_harness
from tests.hostile.poison import accept, entries, scalar, spoil, state, until

from kurir.inbox import Inbox
from kurir.inbox.tables import incoming
from kurir.messages.channel_reports import ConnectionChanged, Event, Received, Sent, StatusChanged
from kurir.outbox import record
from kurir.outbox.row_decoding import ReadableRows
from kurir.outbox.tables import messages
from kurir.quarantine import quarantine
from kurir.reasons import NOTHING
from kurir.services.errors import NotFound


@pytest.fixture
async def harness(tmp_path: Path, database_url: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database_url) as opened:
        yield opened


def received(harness: Harness, name: str, **changes: Any) -> Received:
    number = harness.ours.device
    event = Received(number.account_id, number.id, name, PHONE, PHONE, "Sari", 1.0, "text", "halo")
    return msgspec.structs.replace(event, **changes)


def poison_events(harness: Harness) -> dict[str, Event]:
    """Events that a database refuses for different reasons; each names what is wrong with it."""
    number = harness.ours.device
    return {
        "number that does not exist": received(harness, "p1", number_id=999_999),
        "half a surrogate pair": received(harness, "p2", text="a\ud800b"),
        "time that is no number": received(harness, "p3", at="yesterday"),
        "no text at all": received(harness, "p4", text=None),
        "receipt of another shape": StatusChanged(number.account_id, number.id, "p5", "delivered", at=[]),  # type: ignore[arg-type]
        "id of a wrong type": received(harness, "p6", remote_id={"a": 1}),
        "state of a wrong type": ConnectionChanged(number.account_id, number.id, 7, NOTHING, 1.0),  # type: ignore[arg-type]
    }


async def test_an_event_that_cannot_be_stored_is_quarantined_and_the_others_are_stored(harness: Harness) -> None:
    poison = list(poison_events(harness).values())
    for i in range(40):
        harness.devices.hear(received(harness, f"good{i}"))
        if i % 6 == 0:
            harness.devices.hear(poison[i // 6 % len(poison)])
    await until(lambda: _all_good(harness, 40), "good events were not stored")
    found = await entries(harness)
    assert found, "nothing was quarantined"
    assert all(entry.queue == "inbox" and entry.reason and entry.payload for entry in found)
    # what a database takes after all (SQLite stores most types) is stored; nothing is lost in silence
    stored = await scalar(harness, sa.select(sa.func.count()).select_from(incoming))
    receipts_and_states = 2
    assert stored + len(found) >= 40 + len(poison) - receipts_and_states
    assert 'kurir_quarantined_total{queue="inbox"}' in harness.gateway.metrics.render().decode()


async def _all_good(harness: Harness, count: int) -> bool:
    good = sa.select(sa.func.count()).select_from(incoming).where(incoming.c.remote_id.like("good%"))
    return await scalar(harness, good) == count


async def test_an_event_quarantined_can_be_replayed_once_what_was_wrong_is_right(harness: Harness) -> None:
    def no_texts(connection: sa.Connection) -> None:
        raise ValueError("unforeseen")

    original = Inbox._apply
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Inbox, "_apply", lambda *_: no_texts(_[1]))
        await harness.gateway.inbox.take_each([(received(harness, "A1"), "")])
    (entry,) = await entries(harness)
    assert Inbox._apply is original
    await harness.gateway.services.replays.replay_of_any(entry.id)
    assert await scalar(harness, sa.select(incoming.c.text)) == "halo"
    assert await entries(harness) == []
    with pytest.raises(NotFound):
        await harness.gateway.services.replays.replay_of_any(entry.id)


CONTENTS = ['{"type":"poll"}', "", "not json", '{"type":"text"}', '{"type":"text","text":[1]}', "[]", "\ufffd"]
"""What a newer version wrote before a downgrade, or what damage leaves."""


@pytest.mark.parametrize("content", CONTENTS)
async def test_a_message_that_cannot_be_read_fails_alone(harness: Harness, content: str) -> None:
    harness.devices.connected = False
    bad, good = await accept(harness, "628111"), [await accept(harness, f"62822{i}") for i in range(5)]
    behind = await accept(harness, "628111")
    await spoil(harness, bad, content)
    harness.devices.connected = True
    harness.gateway.dispatcher.wake(harness.ours.device.account_id, harness.ours.device.id)
    for message_id in (*good, behind):

        async def sent(message_id: int = message_id) -> bool:
            return await state(harness, message_id) == "sent"

        await until(sent, f"a good message stays {await state(harness, message_id)}")
    assert await state(harness, bad) == "failed unprocessable"
    (entry,) = await entries(harness)
    assert (entry.queue, entry.reference, entry.payload.decode()) == ("outbox", str(bad), content)
    assert harness.gateway.health.failures() == []
    assert harness.gateway.outbox.waiting() == 0


async def test_what_an_earlier_process_left_in_flight_and_cannot_be_read_is_in_doubt(harness: Harness) -> None:
    number, dispatcher = harness.ours.device, harness.gateway.dispatcher
    harness.devices.connected = False
    bad, good = await accept(harness, "628111"), await accept(harness, "628222")
    await dispatcher.end(number.id, 1.0)
    await spoil(harness, bad, '{"type":"poll"}')
    in_flight = messages.update().where(messages.c.id == bad).values(state="sending", attempts=1)
    await harness.gateway.database.write(lambda c: c.execute(in_flight) and None)
    harness.devices.connected = True
    dispatcher.begin(number.account_id, number.id)

    async def sent() -> bool:
        return await state(harness, good) == "sent"

    await until(sent, "the good message was not sent")
    assert await state(harness, bad) == "unconfirmed unprocessable"


async def test_a_message_whose_outcome_cannot_be_recorded_ends_and_the_lane_goes_on(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, bad = record.record, await held(harness, "628111")
    good = await held(harness, "628222")

    def breaks(connection: sa.Connection, claimed: Any, *arguments: Any, **named: Any) -> Any:
        if claimed.id == bad:
            raise RuntimeError("unforeseen")
        return original(connection, claimed, *arguments, **named)

    monkeypatch.setattr(record, "record", breaks)
    harness.devices.connected = True
    harness.gateway.dispatcher.wake(harness.ours.device.account_id, harness.ours.device.id)

    async def sent() -> bool:
        return (await state(harness, good), await state(harness, bad)) == ("sent", "sent")

    await until(sent, "a message stays in flight")  # it left, so that is what is known of it
    assert [entry.reference for entry in await entries(harness)] == [str(bad)]
    assert len(harness.devices.sent) == 2  # never twice


@pytest.mark.parametrize("remote_id", [{"a": 1}, "a"], ids=["cannot be stored", "can be stored"])
@pytest.mark.parametrize("quarantine_breaks", [False, True])
async def test_a_message_leaves_the_queue_whatever_cannot_be_written_of_it(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, remote_id: Any, quarantine_breaks: bool
) -> None:
    if quarantine_breaks:
        monkeypatch.setattr(quarantine, "add", lambda *_: 1 / 0)
    original, bad = record.record, await held(harness, "628111")
    good = await held(harness, "628222")

    def breaks(connection: sa.Connection, claimed: Any, *arguments: Any, **named: Any) -> Any:
        if claimed.id == bad:
            raise RuntimeError("unforeseen")
        return original(connection, claimed, *arguments, **named)

    monkeypatch.setattr(record, "record", breaks)
    harness.devices.outcome = lambda out: Sent(remote_id if out.message_id == bad else f"r{out.message_id}")
    harness.devices.connected = True
    harness.gateway.dispatcher.wake(harness.ours.device.account_id, harness.ours.device.id)

    async def sent() -> bool:
        return (await state(harness, good), await state(harness, bad)) == ("sent", "sent")

    await until(sent, "a message stays in flight")
    known_as = await scalar(harness, sa.select(messages.c.remote_id).where(messages.c.id == bad))
    assert known_as == (None if quarantine_breaks or not isinstance(remote_id, str) else remote_id)
    assert len(await entries(harness)) == (0 if quarantine_breaks else 1)
    after = await accept(harness, "628111")  # and those behind it go on

    async def next_sent() -> bool:
        return await state(harness, after) == "sent"

    harness.devices.outcome = lambda out: Sent(f"r{out.message_id}")
    await until(next_sent, "the lane stands still")
    assert len(harness.devices.sent) == 3


async def test_a_message_that_cannot_be_read_nor_quarantined_holds_nobody_up(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "add", lambda *_: 1 / 0)
    bad, good = await held(harness, "628111"), await held(harness, "628222")
    await spoil(harness, bad, "damaged")
    harness.devices.connected = True
    harness.gateway.dispatcher.wake(harness.ours.device.account_id, harness.ours.device.id)

    async def settled() -> bool:
        return (await state(harness, good), await state(harness, bad)) == ("sent", "failed unprocessable")

    await until(settled, "a message stays in flight")


async def held(harness: Harness, recipient: str) -> int:
    harness.devices.connected = False
    return await accept(harness, recipient)


async def test_a_secret_is_not_kept_in_the_quarantine(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.devices.connected = False
    bad = await accept(harness, secret=True)
    monkeypatch.setattr(ReadableRows, "_claimed", lambda *_: 1 / 0)
    harness.devices.connected = True
    harness.gateway.dispatcher.wake(harness.ours.device.account_id, harness.ours.device.id)

    async def failed() -> bool:
        return await state(harness, bad) == "failed unprocessable"

    await until(failed, "the message was not quarantined")
    (entry,) = await entries(harness)
    assert entry.payload == b""
    assert await scalar(harness, sa.select(messages.c.content).where(messages.c.id == bad)) == ""
