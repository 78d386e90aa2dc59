"""Lanes with a channel that pretends: evidence after doubt and after a crash, resend, the orderly stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.harness.gateway import PHONE, Harness, open_harness

from kurir.accounts import accounts
from kurir.channels.channel import Capabilities
from kurir.dispatch.dispatcher import Dispatcher
from kurir.messages.channel_reports import Evidence, InDoubt, NeverLeft, Outcome, Sent, StatusChanged, Unknown
from kurir.messages.content import Image, Outgoing, Text
from kurir.numbers import status as number_status
from kurir.outbox.outbox import Draft
from kurir.outbox.tables import messages
from kurir.reasons import as_written
from kurir.store.database import DatabaseUnavailable


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as harness:
        yield harness


async def accept(harness: Harness, what: str | Image = "halo") -> int:
    number = harness.ours.device
    content = Text(what) if isinstance(what, str) else what
    accepted = await harness.gateway.outbox.accept(
        [Draft(account_id=number.account_id, number_id=number.id, recipient=PHONE, content=content)]
    )
    return accepted.ids[0]


async def until(harness: Harness, message_id: int, state: str) -> str | None:
    """Waits for a state; returns the id at WhatsApp."""
    async with asyncio.timeout(10):
        while True:
            found = await harness.gateway.outbox.snapshot(harness.ours.account.id, message_id)
            assert found is not None
            if found.state == state:
                return found.remote_id
            await asyncio.sleep(0.01)


def doubt_first(harness: Harness, evidence: Evidence) -> None:
    """The first try of each message ends in doubt; then the channel knows `evidence` of it."""

    def outcome(outgoing: Outgoing) -> Outcome:
        return InDoubt(as_written("no answer")) if outgoing.attempt == 1 else Sent("second")

    harness.devices.outcome = outcome
    harness.devices.evidence_of = lambda _: evidence


def patient(harness: Harness, seconds: float) -> None:
    known = harness.devices.capabilities
    harness.devices.capabilities = Capabilities(known.kinds, known.groups, known.typing, known.window, seconds)


async def choose(harness: Harness, doubt: str) -> None:
    account_id = harness.ours.account.id
    await harness.gateway.database.write(lambda c: accounts.change(c, account_id, doubt=doubt))


async def restart(harness: Harness) -> Dispatcher:
    """The dispatcher of a next life, on the same database and channels."""
    gateway = harness.gateway
    return Dispatcher(
        {"linked_device": harness.devices, "cloud_api": harness.cloud},
        database=gateway.database,
        outbox=gateway.outbox,
        media=gateway.media,
        metrics=gateway.metrics,
        clock=gateway.clock,
        device_gap=0.0,
    )


async def test_what_never_left_goes_out_again(harness: Harness):
    doubt_first(harness, NeverLeft())
    message_id = await accept(harness)
    assert await until(harness, message_id, "sent") == "second"
    assert [outgoing.attempt for outgoing in harness.devices.sent] == [1, 2]


async def test_what_nobody_knows_is_held_with_its_id_and_the_next_goes_on(harness: Harness):
    doubt_first(harness, Unknown("3EB0"))
    patient(harness, 0.05)
    held = await accept(harness, "1")
    assert await until(harness, held, "unconfirmed") == "3EB0"
    harness.devices.outcome = lambda _: Sent("x")
    await until(harness, await accept(harness, "2"), "sent")
    assert [outgoing.content for outgoing in harness.devices.sent] == [Text("1"), Text("2")]


@pytest.mark.parametrize("evidence_breaks", [False, True], ids=["no evidence", "evidence breaks"])
async def test_a_channel_that_breaks_while_sending_leaves_doubt(harness: Harness, evidence_breaks: bool):
    """A mistake of ours may come after the wire: only evidence says that nothing left."""
    send, begun = harness.devices.send, []

    async def breaks(number, outgoing: Outgoing) -> Outcome:
        begun.append(outgoing.message_id)
        await send(number, outgoing)
        raise RuntimeError("unforeseen")

    def evidence(_: Outgoing) -> Evidence:
        if evidence_breaks:
            raise RuntimeError("unforeseen too")
        return Unknown()

    harness.devices.send = breaks  # type: ignore[method-assign]
    harness.devices.evidence_of = evidence
    message_id = await accept(harness)
    await until(harness, message_id, "unconfirmed")
    assert begun == [message_id]


async def test_with_resend_it_goes_out_once_more_before_what_came_later(harness: Harness):
    await choose(harness, "resend")
    patient(harness, 0.3)
    doubt_first(harness, Unknown())
    first = await accept(harness, "1")
    await until(harness, first, "unconfirmed")
    harness.devices.outcome = lambda outgoing: Sent(f"x{outgoing.attempt}")
    second = await accept(harness, "2")
    assert await until(harness, first, "sent") == "x2"
    await until(harness, second, "sent")
    assert [outgoing.content for outgoing in harness.devices.sent] == [Text("1"), Text("1"), Text("2")]


async def test_after_a_restart_a_doubt_with_nothing_behind_it_goes_out_once_more(harness: Harness):
    await choose(harness, "resend")
    patient(harness, 60.0)
    doubt_first(harness, Unknown())
    message_id = await accept(harness)
    await until(harness, message_id, "unconfirmed")
    await harness.gateway.dispatcher.stop(0)
    over = messages.update().where(messages.c.id == message_id).values(doubt_until=1.0)
    await harness.gateway.database.write(lambda c: c.execute(over) and None)
    patient(harness, 0.05)
    dispatcher = await restart(harness)
    await dispatcher.start()
    try:
        assert await until(harness, message_id, "sent") == "second"
    finally:
        await dispatcher.stop()


async def test_a_device_that_is_away_hears_of_no_receipts_so_its_doubts_wait(harness: Harness):
    await choose(harness, "resend")
    patient(harness, 0.2)
    harness.devices.evidence_of = lambda _: Unknown("3EB0")

    def goes_away(_: Outgoing) -> Outcome:
        harness.devices.connected = False
        return InDoubt(as_written("the connection was cut"))

    harness.devices.outcome = goes_away
    message_id = await accept(harness)
    await until(harness, message_id, "unconfirmed")
    number = harness.ours.device
    harness.gateway.dispatcher.wake(number.account_id, number.id)
    # well beyond the patience, in the lane's own time
    settled = harness.gateway.outbox.settle_doubts(
        number.account_id, number.id, since=harness.gateway.clock(), timeout=0.2
    )
    assert await settled is not None
    harness.devices.connected = True
    receipt = StatusChanged(number.account_id, number.id, "3EB0", "delivered", 1.0)
    await harness.gateway.inbox.take([(receipt, "")])
    harness.gateway.dispatcher.wake(number.account_id, number.id)
    await until(harness, message_id, "delivered")
    assert len(harness.devices.sent) == 1


@pytest.mark.parametrize(("evidence", "ends", "sends"), [(NeverLeft(), "sent", 1), (Unknown(), "unconfirmed", 0)])
async def test_what_a_crash_left_in_flight_is_settled_by_evidence(
    harness: Harness, evidence: Evidence, ends: str, sends: int
):
    await harness.gateway.dispatcher.stop(0)
    message_id = await accept(harness)
    await harness.gateway.database.write(
        lambda c: c.execute(messages.update().where(messages.c.id == message_id).values(state="sending", attempts=1))
    )
    harness.devices.evidence_of = lambda _: evidence
    dispatcher = await restart(harness)
    await dispatcher.start()
    try:
        await until(harness, message_id, ends)
        assert [outgoing.attempt for outgoing in harness.devices.sent] == [2] * sends
        assert harness.gateway.outbox.waiting() == 0
    finally:
        await dispatcher.stop()


async def test_what_is_left_in_flight_without_its_file_has_not_left(harness: Harness):
    asked: list[int] = []

    def evidence(outgoing: Outgoing) -> Evidence:
        asked.append(outgoing.message_id)
        return Unknown()

    async def hangs(*_of_message: object) -> None:
        await asyncio.Event().wait()

    harness.devices.evidence_of = evidence
    harness.gateway.media.prepare = hangs  # type: ignore[method-assign,assignment]
    await harness.gateway.dispatcher.stop(0)
    message_id = await accept(harness, Image("https://example.com/a.png", ""))
    await harness.gateway.database.write(
        lambda c: c.execute(messages.update().where(messages.c.id == message_id).values(state="sending", attempts=1))
    )
    dispatcher = await restart(harness)
    await dispatcher.start()
    try:
        await until(harness, message_id, "queued")
        assert asked == []
    finally:
        await dispatcher.stop()


async def test_a_stop_finishes_what_is_in_flight_and_claims_nothing_more(harness: Harness):
    on_the_wire, go_on = asyncio.Event(), asyncio.Event()
    send = harness.devices.send

    async def slow(number, outgoing: Outgoing) -> Outcome:
        on_the_wire.set()
        await go_on.wait()
        return await send(number, outgoing)

    harness.devices.send = slow  # type: ignore[method-assign]
    first, second = await accept(harness, "1"), await accept(harness, "2")
    await asyncio.wait_for(on_the_wire.wait(), 10)
    stopping = asyncio.create_task(harness.gateway.dispatcher.stop(10))
    waiting = asyncio.create_task(harness.gateway.outbox.wait_until_settled(harness.ours.account.id, second, 30))
    await until(harness, first, "sending")
    go_on.set()
    assert await asyncio.wait_for(stopping, 10) == 0
    await until(harness, first, "sent")
    harness.gateway.outbox.dismiss()
    reported = await asyncio.wait_for(waiting, 10)
    assert (reported.state, reported.attempts) == ("queued", 0)
    assert (await harness.gateway.outbox.wait_until_settled(harness.ours.account.id, second, 30)).state == "queued"


async def test_a_stop_in_the_middle_of_a_turn_claims_nothing_either(harness: Harness):
    settle = harness.gateway.outbox.settle_doubts
    stops: list[asyncio.Task[int]] = []

    async def stopped_meanwhile(*of_number, **timeout):
        stops.append(asyncio.create_task(harness.gateway.dispatcher.stop(10)))
        for _ in range(5):  # until the lane has been told
            await asyncio.sleep(0)
        return await settle(*of_number, **timeout)

    harness.gateway.outbox.settle_doubts = stopped_meanwhile  # type: ignore[method-assign]
    message_id = await accept(harness)
    async with asyncio.timeout(10):
        while not stops:
            await asyncio.sleep(0.01)
    assert await asyncio.wait_for(stops[0], 10) == 0
    found = await harness.gateway.outbox.snapshot(harness.ours.account.id, message_id)
    assert found is not None
    assert (found.state, found.attempts) == ("queued", 0)


async def test_a_pause_in_the_middle_of_a_turn_is_heeded_at_the_claim(harness: Harness):
    outbox, number = harness.gateway.outbox, harness.ours.device
    settle, claim = outbox.settle_doubts, outbox.claim
    claims: list[int] = []
    claimed = asyncio.Event()

    async def paused_meanwhile(*of_number, **timeout):
        await harness.gateway.database.write(
            lambda c: number_status.pause(c, number.account_id, number.id, as_written("the token has expired"), 1.0)
        )
        return await settle(*of_number, **timeout)

    async def counted(*of_number, **how):
        taken = await claim(*of_number, **how)
        claims.append(len(taken.messages))
        claimed.set()
        return taken

    outbox.settle_doubts = paused_meanwhile  # type: ignore[method-assign]
    outbox.claim = counted  # type: ignore[method-assign]
    message_id = await accept(harness)
    async with asyncio.timeout(10):
        await claimed.wait()
    assert claims == [0]
    await until(harness, message_id, "queued")
    assert harness.devices.sent == []


async def test_a_stop_has_an_end_and_what_is_cut_off_is_left_to_evidence(harness: Harness):
    on_the_wire = asyncio.Event()

    async def hangs(_number, _outgoing: Outgoing) -> Outcome:
        on_the_wire.set()
        await asyncio.Event().wait()
        raise AssertionError

    harness.devices.send = hangs  # type: ignore[method-assign]
    message_id = await accept(harness)
    await asyncio.wait_for(on_the_wire.wait(), 10)
    assert await asyncio.wait_for(harness.gateway.dispatcher.stop(0.05), 10) == 1
    await until(harness, message_id, "sending")


async def test_a_stop_cuts_off_no_answer_that_waits_for_the_database(harness: Harness):
    record, refused, down = harness.gateway.outbox.record, asyncio.Event(), True

    async def away(*arguments, **named):
        if down:
            refused.set()
            raise DatabaseUnavailable("gone for a moment")
        return await record(*arguments, **named)

    harness.gateway.outbox.record = away  # type: ignore[method-assign]
    message_id = await accept(harness)
    await asyncio.wait_for(refused.wait(), 10)
    assert await asyncio.wait_for(harness.gateway.dispatcher.stop(0.05), 10) == 0
    down = False
    await until(harness, message_id, "sent")
    assert [outgoing.attempt for outgoing in harness.devices.sent] == [1]
