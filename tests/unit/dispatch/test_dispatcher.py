"""The dispatcher: which numbers get a lane, what a lane is given, and what becomes of both when something fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.gateway import PHONE, Harness, open_harness
from tests.harness.signals import Signals
from tests.sentences import all_english

from kurir.dispatch.dispatcher import Dispatcher
from kurir.dispatch.lane import Lane
from kurir.kit.pauses import Pauses
from kurir.kit.tasks import TaskHealth
from kurir.leases import Alone
from kurir.messages.content import Text
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.outbox.message_rows import Draft
from kurir.store.database import DatabaseUnavailable

GAP = 0.25


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as harness:
        await harness.gateway.dispatcher.stop(0)
        yield harness


class Own:
    """A dispatcher beside the gateway's, which has stopped."""

    def __init__(self, harness: Harness) -> None:
        gateway = harness.gateway
        self.health, self.signals, self.ownership = TaskHealth(), Signals(), Alone()
        self.pauses = Pauses(sweep=3_600.0, after_failure=0.01, lane_idle=0.01)
        self.dispatcher = Dispatcher(
            {"linked_device": harness.devices, "cloud_api": harness.cloud},
            database=gateway.database,
            outbox=gateway.outbox,
            media=gateway.media,
            metrics=gateway.metrics,
            clock=gateway.clock,
            device_gap=GAP,
            ownership=self.ownership,
            health=self.health,
            pauses=self.pauses,
            signals=self.signals,
        )


@pytest.fixture
async def own(harness: Harness) -> AsyncIterator[Own]:
    own = Own(harness)
    yield own
    await own.dispatcher.stop(0)


async def accept(harness: Harness, number: Number, recipient: str = PHONE) -> int:
    draft = Draft(account_id=number.account_id, number_id=number.id, recipient=recipient, content=Text("halo"))
    return (await harness.gateway.outbox.accept([draft])).ids[0]


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_lane_gets_its_numbers_channel_and_gap_and_the_parts_of_the_process(
    harness: Harness, own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    create = Lane.__init__

    def noted(lane: Lane, *arguments: Any, **options: Any) -> None:
        made.append((arguments, options))
        create(lane, *arguments, **options)

    monkeypatch.setattr(Lane, "__init__", noted)
    for number in (harness.ours.device, harness.ours.official):
        lane = await own.dispatcher._opened(number.account_id, number.id)
        assert own.dispatcher._lanes.pop(number.id) is lane
    gateway = harness.gateway
    common = {
        "database": gateway.database,
        "outbox": gateway.outbox,
        "media": gateway.media,
        "metrics": gateway.metrics,
        "clock": gateway.clock,
        "hold": own.ownership.hold(harness.ours.device.id),
        "health": own.health,
        "pauses": own.pauses,
        "signals": own.signals,
    }
    assert made == [
        ((harness.ours.device, harness.devices), common | {"gap": GAP}),
        ((harness.ours.official, harness.cloud), common | {"gap": 0.0}),
    ]


async def test_at_the_start_every_number_with_something_queued_gets_a_lane(harness: Harness, own: Own) -> None:
    ours, theirs = harness.ours.device, harness.theirs.official
    await accept(harness, ours)
    await accept(harness, theirs)
    await own.dispatcher.start()
    await harness.until_sent(1)
    await harness.until_sent(1, channel=harness.cloud)
    await until(lambda: not own.dispatcher._lanes)
    assert own.health.failures() == []


async def test_a_number_that_nobody_has_any_more_gets_no_lane(harness: Harness, own: Own) -> None:
    number = harness.ours.device
    await harness.gateway.database.write(lambda c: numbers.remove(c, number.account_id, number.id, 1.0))
    assert await own.dispatcher._opened(number.account_id, number.id) is None
    assert await own.dispatcher._opened(number.account_id + 1, harness.ours.official.id) is None
    assert own.dispatcher._lanes == {}


async def test_a_lane_is_opened_as_soon_as_the_database_answers(
    harness: Harness, own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    read = harness.gateway.database.read

    async def away_at_first(work: Any, **options: Any) -> Any:
        asked.append(options)
        if len(asked) < 3:
            raise DatabaseUnavailable("gone")
        return await read(work, **options)

    monkeypatch.setattr(harness.gateway.database, "read", away_at_first)
    number = harness.ours.device
    lane = await own.dispatcher._opened(number.account_id, number.id)
    assert lane is not None
    assert lane.number == number
    assert asked == [{"of": number.account_id}] * 3
    del own.dispatcher._lanes[number.id]


async def test_a_lane_that_breaks_is_reported_and_begins_again(harness: Harness, own: Own) -> None:
    number = harness.ours.device
    claim, broken = harness.gateway.outbox.claim, []

    async def breaks(*of_number: Any, **how: Any) -> Any:
        if not broken:
            broken.append(own.dispatcher._lanes[number.id])
            raise ZeroDivisionError("unforeseen")
        return await claim(*of_number, **how)

    harness.gateway.outbox.claim = breaks  # type: ignore[method-assign]
    await accept(harness, number)
    own.dispatcher.wake(number.account_id, number.id)
    await harness.until_sent(1)
    assert broken[0].closed
    (failure,) = all_english(own.health.failures())
    assert failure == f"the task lane {number.id} keeps failing (ZeroDivisionError)"
    await until(lambda: number.id not in own.dispatcher._lanes)


async def test_a_stop_says_how_many_sends_were_cut_off_and_starts_no_lane_after(harness: Harness, own: Own) -> None:
    reached: list[int] = []
    ours, theirs = harness.ours.device, harness.theirs.device

    async def hangs(number: Number, _outgoing: object) -> Any:
        reached.append(number.id)
        await asyncio.Event().wait()

    harness.devices.send = hangs  # type: ignore[method-assign]
    for number in (ours, theirs):
        await accept(harness, number)
        own.dispatcher.wake(number.account_id, number.id)
    await until(lambda: len(reached) == 2)
    assert await own.dispatcher.stop(0.01) == 2
    own.dispatcher.wake(harness.ours.official.account_id, harness.ours.official.id)
    assert harness.ours.official.id not in own.dispatcher._kept
    number = harness.ours.official
    assert await own.dispatcher._opened(number.account_id, number.id) is None


async def test_the_sweep_expires_notifies_and_counts(harness: Harness) -> None:
    own = Own(harness)
    own.dispatcher._pauses = Pauses(sweep=0.01)
    number = harness.ours.device
    restriction = numbers.Restriction(harness.gateway.clock() + 600, 600.0)
    await harness.gateway.database.write(
        lambda c: numbers.set_restriction(c, number.account_id, number.id, restriction)
    )
    harness.devices.connected = False
    await own.dispatcher.start()
    await accept(harness, number)
    await until(lambda: number.id in own.dispatcher._lanes)

    def gauge(name: str) -> float | None:
        return harness.gateway.metrics.registry.get_sample_value(name)

    await until(lambda: gauge("kurir_queue_depth") == 1)
    await until(lambda: gauge("kurir_restricted_numbers") == 1)
    await harness.gateway.database.write(lambda c: c.exec_driver_sql("UPDATE messages SET expires_at = 1.0") and None)
    await until(lambda: gauge("kurir_queue_depth") == 0)
    await own.dispatcher.stop(0)


async def test_a_send_that_fails_unforeseen_is_counted_in_the_health_of_the_process(
    harness: Harness, own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[str] = []
    monkeypatch.setattr(own.health, "count_failure", failures.append)

    async def breaks(_lane: Lane, _message: object) -> None:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr(Lane, "_process", breaks)
    await accept(harness, harness.ours.device)
    own.dispatcher.wake(harness.ours.device.account_id, harness.ours.device.id)
    await until(lambda: failures)
    assert failures == ["send"]
