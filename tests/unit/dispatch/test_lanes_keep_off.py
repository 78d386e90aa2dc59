"""What a lane must not touch, and what it must look at again: sends in flight after trouble, and new doubts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.harness.gateway import PHONE, Harness, open_harness

from kurir.accounts import accounts
from kurir.channels.channel import Capabilities
from kurir.messages.channel_reports import InDoubt, NeverLeft, Outcome, Sent, Unknown
from kurir.messages.content import Outgoing, Text
from kurir.numbers.numbers import Number
from kurir.outbox.message_rows import Claimed, Claims, Draft
from kurir.reasons import as_written
from kurir.store.database import DatabaseUnavailable

OTHER = "6281234567891"
Claim = Callable[..., Awaitable[Claims]]


class Wire:
    """The channel's sends to `PHONE`, held until `go_on`; others are taken at once."""

    def __init__(self, harness: Harness) -> None:
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self._send = harness.devices.send
        harness.devices.send = self.send  # type: ignore[method-assign]

    async def send(self, number: Number, outgoing: Outgoing) -> Outcome:
        if outgoing.recipient == PHONE:
            self.reached.set()
            await self.go_on.wait()
        return await self._send(number, outgoing)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, evidence=lambda _: NeverLeft()) as harness:
        yield harness


@pytest.fixture
async def wire(harness: Harness) -> AsyncIterator[Wire]:
    wire = Wire(harness)
    yield wire
    wire.go_on.set()


async def accept(harness: Harness, recipient: str = PHONE, origin: str = "api") -> int:
    number = harness.ours.device
    draft = Draft(
        account_id=number.account_id, number_id=number.id, recipient=recipient, content=Text("halo"), origin=origin
    )
    return (await harness.gateway.outbox.accept([draft])).ids[0]


async def until(harness: Harness, message_id: int, *states: str) -> None:
    async with asyncio.timeout(10):
        while True:
            found = await harness.gateway.outbox.snapshot(harness.ours.account.id, message_id)
            assert found is not None
            if found.state in states:
                return
            await asyncio.sleep(0.01)


def breaks_once(harness: Harness, error: Exception) -> asyncio.Event:
    """The next claim raises `error`; the event says that another one came after it."""
    claim: Claim = harness.gateway.outbox.claim
    broken: list[bool] = []
    again = asyncio.Event()

    async def broken_claim(*of_number: object, **how: object) -> Claims:
        if not broken:
            broken.append(True)
            raise error
        taken = await claim(*of_number, **how)
        again.set()
        return taken

    harness.gateway.outbox.claim = broken_claim  # type: ignore[method-assign,assignment]
    return again


def sends_to(harness: Harness, recipient: str) -> list[int]:
    return [outgoing.attempt for outgoing in harness.devices.sent if outgoing.recipient == recipient]


async def test_after_a_claim_that_failed_own_sends_in_flight_are_left_alone(harness: Harness, wire: Wire) -> None:
    in_flight_ids = await accept(harness)
    await asyncio.wait_for(wire.reached.wait(), 10)
    again = breaks_once(harness, DatabaseUnavailable("gone for a moment"))
    other = await accept(harness, OTHER)
    await asyncio.wait_for(again.wait(), 10)  # what was in flight has been looked at by then
    found = await harness.gateway.outbox.snapshot(harness.ours.account.id, in_flight_ids)
    assert found is not None
    assert (found.state, found.attempts) == ("sending", 1)
    wire.go_on.set()
    await until(harness, in_flight_ids, "sent")
    await until(harness, other, "sent")
    assert sends_to(harness, PHONE) == [1]


async def test_what_a_claim_took_without_its_answer_coming_through_has_not_left_and_goes_out(harness: Harness) -> None:
    """The commit was made and the connection broke: the messages are in flight and nobody carries them."""
    harness.devices.evidence_of = lambda _: Unknown()  # nobody has to be asked
    claim: Claim = harness.gateway.outbox.claim
    lost: list[Claimed] = []

    async def answerless_claim(*of_number: object, **how: object) -> Claims:
        taken = await claim(*of_number, **how)
        if taken.messages and not lost:
            lost.extend(taken.messages)
            raise DatabaseUnavailable("the answer to the commit did not come")
        return taken

    harness.gateway.outbox.claim = answerless_claim  # type: ignore[method-assign,assignment]
    message_id = await accept(harness)
    await until(harness, message_id, "sent", "unconfirmed")
    assert [message.id for message in lost] == [message_id]
    assert sends_to(harness, PHONE) == [2]


async def test_after_a_lane_broke_the_next_begins_when_its_sends_have_landed(harness: Harness, wire: Wire) -> None:
    in_flight_ids = await accept(harness)
    await asyncio.wait_for(wire.reached.wait(), 10)
    left_in_flight = harness.gateway.outbox.left_in_flight
    begun = asyncio.Event()
    found: list[list[int]] = []

    async def seen(*of_number: int) -> Claims:
        left = await left_in_flight(*of_number)
        found.append([message.id for message in left])
        begun.set()
        return left

    harness.gateway.outbox.left_in_flight = seen  # type: ignore[method-assign]
    breaks_once(harness, RuntimeError("a mistake of ours"))
    other = await accept(harness, OTHER)
    with contextlib.suppress(TimeoutError):  # a lane that does not wait begins after half a second
        await asyncio.wait_for(begun.wait(), 1.5)
    wire.go_on.set()
    await until(harness, other, "sent")
    await until(harness, in_flight_ids, "sent")
    assert found[0] == []
    assert sends_to(harness, PHONE) == [1]


@pytest.mark.parametrize("origin", ["api", "otp"])
async def test_a_new_doubt_is_looked_at_again_while_the_lane_is_busy(harness: Harness, wire: Wire, origin: str) -> None:
    known = harness.devices.capabilities
    harness.devices.capabilities = Capabilities(known.kinds, known.groups, known.typing, known.window, 0.1)
    harness.devices.evidence_of = lambda _: Unknown()
    if origin == "api":
        await harness.gateway.database.write(lambda c: accounts.change(c, harness.ours.account.id, doubt="resend"))
    harness.devices.outcome = lambda outgoing: (
        InDoubt(as_written("no answer")) if outgoing.attempt == 1 else Sent("second")
    )
    await accept(harness)  # the lane is busy with this one, so that it does not end
    await asyncio.wait_for(wire.reached.wait(), 10)
    doubtful = await accept(harness, OTHER, origin)
    await until(harness, doubtful, "sent")
    assert sends_to(harness, OTHER) == [1, 2]
    assert sends_to(harness, PHONE) == []
