"""Lanes and the right to carry a number: what the heir may judge, what a lane does that has lost it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Connection
from tests.harness.gateway import PHONE, Harness, open_harness

from kurir.dispatch.dispatcher import Dispatcher
from kurir.leases import Hold
from kurir.messages.channel_reports import NeverLeft, Outcome, Sent
from kurir.messages.content import Image, MediaFile, Outgoing, Text
from kurir.outbox.outbox import Draft
from kurir.outbox.tables import messages


@dataclass
class Held:
    """A hold, and all of them: as the test says."""

    inherited: bool = False
    by_clock: bool = True
    by_database: bool = True

    def hold(self, _number_id: int) -> Hold | None:
        return self if self.by_clock else None

    def valid(self) -> bool:
        return self.by_clock

    def guard(self, _connection: Connection) -> bool:
        return self.by_database


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as harness:
        await harness.gateway.dispatcher.stop(0)
        yield harness


async def begin(harness: Harness, held: Held) -> Dispatcher:
    gateway = harness.gateway
    dispatcher = Dispatcher(
        {"linked_device": harness.devices, "cloud_api": harness.cloud},
        database=gateway.database,
        outbox=gateway.outbox,
        media=gateway.media,
        metrics=gateway.metrics,
        clock=gateway.clock,
        device_gap=0.0,
        ownership=held,
        signals=harness.signals,
    )
    await dispatcher.start()
    return dispatcher


async def accept(
    harness: Harness, content: Text | Image | None = None, state: str = "queued", recipient: str = PHONE
) -> int:
    number = harness.ours.device
    draft = Draft(
        account_id=number.account_id, number_id=number.id, recipient=recipient, content=content or Text("halo")
    )
    (message_id,) = (await harness.gateway.outbox.accept([draft])).ids
    if state != "queued":
        left = messages.update().where(messages.c.id == message_id).values(state=state, attempts=1)
        await harness.gateway.database.write(lambda c: c.execute(left) and None)
    return message_id


async def stands(harness: Harness, message_id: int) -> tuple[str, int]:
    found = await harness.gateway.outbox.snapshot(harness.ours.account.id, message_id)
    assert found is not None
    return found.state, found.attempts


async def until(harness: Harness, message_id: int, state: str) -> None:
    async with asyncio.timeout(10):
        while (await stands(harness, message_id))[0] != state:
            await asyncio.sleep(0.01)


async def several_turns(harness: Harness, dispatcher: Dispatcher) -> None:
    """Wakes the lane, until it has looked three times."""
    for _ in range(3):
        dispatcher.wake(harness.ours.device.account_id, harness.ours.device.id)
        await harness.signals.next("lane_turned")


async def test_an_heir_judges_what_it_finds_in_flight_only_once_its_own_device_is_connected(harness: Harness):
    asked: list[Outgoing] = []

    def evidence(outgoing: Outgoing) -> NeverLeft:
        asked.append(outgoing)
        return NeverLeft()

    harness.devices.evidence_of = evidence
    harness.devices.connected = False
    message_id = await accept(harness, state="sending")
    dispatcher = await begin(harness, Held(inherited=True))
    await several_turns(harness, dispatcher)
    assert asked == []  # the old connection may be alive, and the last send of its frozen gateway on the way
    assert await stands(harness, message_id) == ("sending", 1)
    harness.devices.connected = True
    dispatcher.wake(harness.ours.device.account_id, harness.ours.device.id)
    await until(harness, message_id, "sent")
    assert len(asked) == 1
    await dispatcher.stop()


async def test_whoever_has_lost_the_number_by_the_database_judges_and_claims_nothing(harness: Harness):
    held = Held(by_database=False)
    harness.devices.evidence_of = lambda _: NeverLeft()
    theirs, waiting = await accept(harness, state="sending"), await accept(harness, recipient="6281299999999")
    dispatcher = await begin(harness, held)
    await several_turns(harness, dispatcher)
    assert await stands(harness, theirs) == ("sending", 1)
    assert await stands(harness, waiting) == ("queued", 0)
    assert harness.devices.sent == []
    await dispatcher.stop()


async def test_what_was_claimed_stays_off_the_wire_when_the_number_is_lost_meanwhile(harness: Harness):
    held = Held()
    reading, go_on = asyncio.Event(), asyncio.Event()
    file = MediaFile("/nowhere", "image/png", "a.png", 1, "0")

    async def fetched(_account_id: int, _message_id: int, _content: object) -> MediaFile:
        return file

    async def slow(_account_id: int, _message_id: int) -> MediaFile:
        reading.set()
        await go_on.wait()
        return file

    harness.gateway.media.prepare = fetched  # type: ignore[method-assign]
    harness.gateway.media.whole_file = slow  # type: ignore[method-assign]
    message_id = await accept(harness, Image("https://example.com/a.png", ""))
    dispatcher = await begin(harness, held)
    async with asyncio.timeout(10):
        await reading.wait()
    held.by_clock = False
    go_on.set()
    async with asyncio.timeout(10):
        await dispatcher.end(harness.ours.device.id, 10)
    assert harness.devices.sent == []
    assert await stands(harness, message_id) == ("sending", 1)  # for the next carrier to settle
    await dispatcher.stop()


async def test_an_end_that_is_over_lets_the_number_come_back(harness: Harness):
    harness.devices.outcome = lambda _: Sent("x")
    dispatcher = await begin(harness, Held())
    number = harness.ours.device
    await dispatcher.end(number.id, 1)
    message_id = await accept(harness)
    for _ in range(20):  # there is no lane that could look
        dispatcher.wake(number.account_id, number.id)
        await asyncio.sleep(0.01)
    assert await stands(harness, message_id) == ("queued", 0)
    dispatcher.begin(number.account_id, number.id)
    await until(harness, message_id, "sent")
    await dispatcher.stop()


async def test_answers_that_are_there_are_still_written_down(harness: Harness):
    """The outcome of an own try is known best by whoever tried, whoever carries the number by now."""
    held = Held()
    on_the_wire, answered = asyncio.Event(), asyncio.Event()

    async def slow(_number: object, _outgoing: Outgoing) -> Outcome:
        on_the_wire.set()
        await answered.wait()
        return Sent("3EB0")

    harness.devices.send = slow  # type: ignore[method-assign]
    message_id = await accept(harness)
    dispatcher = await begin(harness, held)
    async with asyncio.timeout(10):
        await on_the_wire.wait()
    held.by_clock = held.by_database = False
    doubt = messages.update().where(messages.c.id == message_id).values(state="unconfirmed")
    await harness.gateway.database.write(lambda c: c.execute(doubt) and None)  # the heir could only doubt
    ending = asyncio.create_task(dispatcher.end(harness.ours.device.id, 10))
    answered.set()
    async with asyncio.timeout(10):
        await ending
    assert await stands(harness, message_id) == ("sent", 1)
    await dispatcher.stop()
