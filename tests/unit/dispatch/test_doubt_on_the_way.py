"""Lanes with a channel that pretends: evidence after doubt and after a crash, resend, the orderly stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.gateway_fixture import PHONE, Front, open_front

from kurir.accounts import accounts
from kurir.channels.channel import Capabilities
from kurir.dispatch.dispatcher import Dispatcher
from kurir.messages.content import Image, Outgoing, Text
from kurir.messages.reports import Evidence, InDoubt, NeverLeft, Outcome, Sent, StatusChanged, Unknown
from kurir.numbers import status as number_status
from kurir.outbox.outbox import Draft
from kurir.outbox.tables import messages
from kurir.reasons import as_written
from kurir.store.database import DatabaseUnavailable


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    async with open_front(tmp_path) as front:
        yield front


async def accept(front: Front, what: str | Image = "halo") -> int:
    number = front.ours.device
    content = Text(what) if isinstance(what, str) else what
    accepted = await front.gateway.outbox.accept(
        [Draft(account_id=number.account_id, number_id=number.id, recipient=PHONE, content=content)]
    )
    return accepted.ids[0]


async def until(front: Front, message_id: int, state: str) -> str | None:
    """Waits for a state; returns the id at WhatsApp."""
    async with asyncio.timeout(10):
        while True:
            found = await front.gateway.outbox.snapshot(front.ours.account.id, message_id)
            assert found is not None
            if found.state == state:
                return found.remote_id
            await asyncio.sleep(0.01)


def doubt_first(front: Front, evidence: Evidence) -> None:
    """The first try of each message ends in doubt; then the channel knows `evidence` of it."""

    def outcome(outgoing: Outgoing) -> Outcome:
        return InDoubt(as_written("no answer")) if outgoing.attempt == 1 else Sent("second")

    front.devices.outcome = outcome
    front.devices.evidence_of = lambda _: evidence


def patient(front: Front, seconds: float) -> None:
    known = front.devices.capabilities
    front.devices.capabilities = Capabilities(known.kinds, known.groups, known.typing, known.window, seconds)


async def choose(front: Front, doubt: str) -> None:
    account_id = front.ours.account.id
    await front.gateway.database.write(lambda c: accounts.change(c, account_id, doubt=doubt))


async def restart(front: Front) -> Dispatcher:
    """The dispatcher of a next life, on the same database and channels."""
    gateway = front.gateway
    return Dispatcher(
        {"linked_device": front.devices, "cloud_api": front.cloud},
        database=gateway.database,
        outbox=gateway.outbox,
        media=gateway.media,
        metrics=gateway.metrics,
        clock=gateway.clock,
        device_gap=0.0,
    )


async def test_what_never_left_goes_out_again(front: Front):
    doubt_first(front, NeverLeft())
    message_id = await accept(front)
    assert await until(front, message_id, "sent") == "second"
    assert [outgoing.attempt for outgoing in front.devices.sent] == [1, 2]


async def test_what_nobody_knows_is_held_with_its_id_and_the_next_goes_on(front: Front):
    doubt_first(front, Unknown("3EB0"))
    patient(front, 0.05)
    held = await accept(front, "1")
    assert await until(front, held, "unconfirmed") == "3EB0"
    front.devices.outcome = lambda _: Sent("x")
    await until(front, await accept(front, "2"), "sent")
    assert [outgoing.content for outgoing in front.devices.sent] == [Text("1"), Text("2")]


@pytest.mark.parametrize("evidence_breaks", [False, True], ids=["no evidence", "evidence breaks"])
async def test_a_channel_that_breaks_while_sending_leaves_doubt(front: Front, evidence_breaks: bool):
    """A mistake of ours may come after the wire: only evidence says that nothing left."""
    send, begun = front.devices.send, []

    async def breaks(number, outgoing: Outgoing) -> Outcome:
        begun.append(outgoing.message_id)
        await send(number, outgoing)
        raise RuntimeError("unforeseen")

    def evidence(_: Outgoing) -> Evidence:
        if evidence_breaks:
            raise RuntimeError("unforeseen too")
        return Unknown()

    front.devices.send = breaks  # type: ignore[method-assign]
    front.devices.evidence_of = evidence
    message_id = await accept(front)
    await until(front, message_id, "unconfirmed")
    assert begun == [message_id]


async def test_with_resend_it_goes_out_once_more_before_what_came_later(front: Front):
    await choose(front, "resend")
    patient(front, 0.3)
    doubt_first(front, Unknown())
    first = await accept(front, "1")
    await until(front, first, "unconfirmed")
    front.devices.outcome = lambda outgoing: Sent(f"x{outgoing.attempt}")
    second = await accept(front, "2")
    assert await until(front, first, "sent") == "x2"
    await until(front, second, "sent")
    assert [outgoing.content for outgoing in front.devices.sent] == [Text("1"), Text("1"), Text("2")]


async def test_after_a_restart_a_doubt_with_nothing_behind_it_goes_out_once_more(front: Front):
    await choose(front, "resend")
    patient(front, 60.0)
    doubt_first(front, Unknown())
    message_id = await accept(front)
    await until(front, message_id, "unconfirmed")
    await front.gateway.dispatcher.stop(0)
    over = messages.update().where(messages.c.id == message_id).values(doubt_until=1.0)
    await front.gateway.database.write(lambda c: c.execute(over) and None)
    patient(front, 0.05)
    dispatcher = await restart(front)
    await dispatcher.start()
    try:
        assert await until(front, message_id, "sent") == "second"
    finally:
        await dispatcher.stop()


async def test_a_device_that_is_away_hears_of_no_receipts_so_its_doubts_wait(front: Front):
    await choose(front, "resend")
    patient(front, 0.2)
    front.devices.evidence_of = lambda _: Unknown("3EB0")

    def goes_away(_: Outgoing) -> Outcome:
        front.devices.connected = False
        return InDoubt(as_written("the connection was cut"))

    front.devices.outcome = goes_away
    message_id = await accept(front)
    await until(front, message_id, "unconfirmed")
    number = front.ours.device
    front.gateway.dispatcher.wake(number.account_id, number.id)
    # well beyond the patience, in the lane's own time
    settled = front.gateway.outbox.settle_doubts(number.account_id, number.id, since=front.gateway.clock(), timeout=0.2)
    assert await settled is not None
    front.devices.connected = True
    receipt = StatusChanged(number.account_id, number.id, "3EB0", "delivered", 1.0)
    await front.gateway.inbox.take([(receipt, "")])
    front.gateway.dispatcher.wake(number.account_id, number.id)
    await until(front, message_id, "delivered")
    assert len(front.devices.sent) == 1


@pytest.mark.parametrize(("evidence", "ends", "sends"), [(NeverLeft(), "sent", 1), (Unknown(), "unconfirmed", 0)])
async def test_what_a_crash_left_in_flight_is_settled_by_evidence(
    front: Front, evidence: Evidence, ends: str, sends: int
):
    await front.gateway.dispatcher.stop(0)
    message_id = await accept(front)
    await front.gateway.database.write(
        lambda c: c.execute(messages.update().where(messages.c.id == message_id).values(state="sending", attempts=1))
    )
    front.devices.evidence_of = lambda _: evidence
    dispatcher = await restart(front)
    await dispatcher.start()
    try:
        await until(front, message_id, ends)
        assert [outgoing.attempt for outgoing in front.devices.sent] == [2] * sends
        assert front.gateway.outbox.waiting() == 0
    finally:
        await dispatcher.stop()


async def test_what_is_left_in_flight_without_its_file_has_not_left(front: Front):
    asked: list[int] = []

    def evidence(outgoing: Outgoing) -> Evidence:
        asked.append(outgoing.message_id)
        return Unknown()

    async def hangs(*_of_message: object) -> None:
        await asyncio.Event().wait()

    front.devices.evidence_of = evidence
    front.gateway.media.prepare = hangs  # type: ignore[method-assign,assignment]
    await front.gateway.dispatcher.stop(0)
    message_id = await accept(front, Image("https://example.com/a.png", ""))
    await front.gateway.database.write(
        lambda c: c.execute(messages.update().where(messages.c.id == message_id).values(state="sending", attempts=1))
    )
    dispatcher = await restart(front)
    await dispatcher.start()
    try:
        await until(front, message_id, "queued")
        assert asked == []
    finally:
        await dispatcher.stop()


async def test_a_stop_finishes_what_is_in_flight_and_claims_nothing_more(front: Front):
    on_the_wire, go_on = asyncio.Event(), asyncio.Event()
    send = front.devices.send

    async def slow(number, outgoing: Outgoing) -> Outcome:
        on_the_wire.set()
        await go_on.wait()
        return await send(number, outgoing)

    front.devices.send = slow  # type: ignore[method-assign]
    first, second = await accept(front, "1"), await accept(front, "2")
    await asyncio.wait_for(on_the_wire.wait(), 10)
    stopping = asyncio.create_task(front.gateway.dispatcher.stop(10))
    waiting = asyncio.create_task(front.gateway.outbox.wait_until_settled(front.ours.account.id, second, 30))
    await until(front, first, "sending")
    go_on.set()
    assert await asyncio.wait_for(stopping, 10) == 0
    await until(front, first, "sent")
    front.gateway.outbox.dismiss()
    reported = await asyncio.wait_for(waiting, 10)
    assert (reported.state, reported.attempts) == ("queued", 0)
    assert (await front.gateway.outbox.wait_until_settled(front.ours.account.id, second, 30)).state == "queued"


async def test_a_stop_in_the_middle_of_a_turn_claims_nothing_either(front: Front):
    settle = front.gateway.outbox.settle_doubts
    stops: list[asyncio.Task[int]] = []

    async def stopped_meanwhile(*of_number, **timeout):
        stops.append(asyncio.create_task(front.gateway.dispatcher.stop(10)))
        for _ in range(5):  # until the lane has been told
            await asyncio.sleep(0)
        return await settle(*of_number, **timeout)

    front.gateway.outbox.settle_doubts = stopped_meanwhile  # type: ignore[method-assign]
    message_id = await accept(front)
    async with asyncio.timeout(10):
        while not stops:
            await asyncio.sleep(0.01)
    assert await asyncio.wait_for(stops[0], 10) == 0
    found = await front.gateway.outbox.snapshot(front.ours.account.id, message_id)
    assert found is not None
    assert (found.state, found.attempts) == ("queued", 0)


async def test_a_pause_in_the_middle_of_a_turn_is_heeded_at_the_claim(front: Front):
    outbox, number = front.gateway.outbox, front.ours.device
    settle, claim = outbox.settle_doubts, outbox.claim
    claims: list[int] = []
    claimed = asyncio.Event()

    async def paused_meanwhile(*of_number, **timeout):
        await front.gateway.database.write(
            lambda c: number_status.pause(c, number.account_id, number.id, as_written("the token has expired"), 1.0)
        )
        return await settle(*of_number, **timeout)

    async def counted(*of_number, **how):
        taken = await claim(*of_number, **how)
        claims.append(len(taken))
        claimed.set()
        return taken

    outbox.settle_doubts = paused_meanwhile  # type: ignore[method-assign]
    outbox.claim = counted  # type: ignore[method-assign]
    message_id = await accept(front)
    async with asyncio.timeout(10):
        await claimed.wait()
    assert claims == [0]
    await until(front, message_id, "queued")
    assert front.devices.sent == []


async def test_a_stop_has_an_end_and_what_is_cut_off_is_left_to_evidence(front: Front):
    on_the_wire = asyncio.Event()

    async def hangs(_number, _outgoing: Outgoing) -> Outcome:
        on_the_wire.set()
        await asyncio.Event().wait()
        raise AssertionError

    front.devices.send = hangs  # type: ignore[method-assign]
    message_id = await accept(front)
    await asyncio.wait_for(on_the_wire.wait(), 10)
    assert await asyncio.wait_for(front.gateway.dispatcher.stop(0.05), 10) == 1
    await until(front, message_id, "sending")


async def test_a_stop_cuts_off_no_answer_that_waits_for_the_database(front: Front):
    record, refused, down = front.gateway.outbox.record, asyncio.Event(), True

    async def away(*arguments, **named):
        if down:
            refused.set()
            raise DatabaseUnavailable("gone for a moment")
        return await record(*arguments, **named)

    front.gateway.outbox.record = away  # type: ignore[method-assign]
    message_id = await accept(front)
    await asyncio.wait_for(refused.wait(), 10)
    assert await asyncio.wait_for(front.gateway.dispatcher.stop(0.05), 10) == 0
    down = False
    await until(front, message_id, "sent")
    assert [outgoing.attempt for outgoing in front.devices.sent] == [1]
