"""The deliverer from its start to its stop: what others left, results that cannot be written, what is in flight."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from tests.harness.webhooks import SEALING, WebhookHarness, delivering, eventually, open_webhook_harness, receiving
from tests.sqlite import new_database

from kurir.kit.metrics import Metrics
from kurir.kit.tasks import Tasks
from kurir.store.database import LONG_WORK, DatabaseUnavailable
from kurir.webhooks import deliver, deliveries
from kurir.webhooks.fan_out import fan_out
from kurir.webhooks.retry_schedule import Answered, judge
from kurir.webhooks.tables import webhook_attempts, webhook_deliveries


async def attempts(harness: WebhookHarness) -> Sequence[int]:
    return await harness.database.read(lambda c: c.execute(sa.select(webhook_attempts.c.number)).scalars().all())


async def test_a_start_that_is_alone_takes_up_what_was_in_hand_before_its_lease_is_over(tmp_path: Path) -> None:
    async with open_webhook_harness(new_database(tmp_path / "kurir.db")) as harness, receiving() as receiver:
        endpoint, _ = await harness.endpoint(receiver.url())
        await harness.comes_in()
        assert await harness.claim(endpoint) is not None
        async with delivering(harness.database, harness.time):  # the lease lasts: time stands still
            await receiver.until(1)
            await eventually(harness.states, {"delivered": 1})
        assert await attempts(harness) == [2]


async def test_a_chat_whose_events_all_wait_is_found_and_goes_on(harness: WebhookHarness) -> None:
    async with receiving() as receiver:
        await harness.endpoint(receiver.url())
        for n in range(2):
            await harness.comes_in(text=f"{n}")
        await harness.fan_out()
        d = webhook_deliveries
        first = d.update().where(d.c.state == "pending").values(state="delivered")
        await harness.database.write(lambda c: c.execute(first) and None)
        async with delivering(harness.database, harness.time):
            (webhook_call,) = await receiver.until(1)
        assert webhook_call.text == "1"


async def test_a_result_that_cannot_be_written_at_once_is_written_and_the_event_reported_once(
    harness: WebhookHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, refused = harness.database.write, []

    async def away_for_a_moment(*arguments: Any, **options: Any) -> Any:
        if receiver.webhook_calls and len(refused) < 2:
            refused.append(True)
            raise DatabaseUnavailable("gone for a moment")
        return await write(*arguments, **options)

    async with receiving() as receiver:
        await harness.endpoint(receiver.url())
        await harness.comes_in()
        monkeypatch.setattr(harness.database, "write", away_for_a_moment)
        async with delivering(harness.database, harness.time):
            await eventually(harness.states, {"delivered": 1})
        assert len(refused) == 2
        assert len(receiver.webhook_calls) == 1
        assert await attempts(harness) == [1]


async def test_a_stop_gives_back_what_is_in_flight(harness: WebhookHarness) -> None:
    async with receiving() as receiver:
        receiver.replies["/hook"] = receiver.hang
        endpoint, _ = await harness.endpoint(receiver.url())
        await harness.comes_in()
        async with delivering(harness.database, harness.time):
            await receiver.until(1)
        assert await harness.states() == {"pending": 1}
        again = await harness.claim(endpoint)  # by the next process, and at once
        assert again is not None
        assert again.attempt == 2


async def test_an_account_whose_events_cannot_be_fanned_out_holds_up_no_other(
    harness: WebhookHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = await harness.tenant()
    original, broken = deliver.fan_out, True

    def breaks(connection: sa.Connection, account_id: int) -> bool:
        if broken and account_id == harness.harness.number.account_id:
            raise RuntimeError("unforeseen")
        return original(connection, account_id)

    monkeypatch.setattr(deliver, "fan_out", breaks)
    async with receiving() as receiver, delivering(harness.database, harness.time) as deliverer:
        await harness.endpoint(receiver.url("/ours"))
        await harness.endpoint(receiver.url("/theirs"), account_id=theirs.account_id)
        await harness.comes_in(text="ours")
        await harness.comes_in(text="theirs", number=theirs)
        deliverer.wake()
        await receiver.until(1, "/theirs")
        assert receiver.at("/ours") == []
        broken = False
        deliverer.wake()
        await receiver.until(1, "/ours")


async def test_a_long_backlog_is_made_into_deliveries_piece_by_piece_and_in_order(
    harness: WebhookHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "_FAN_OUT_MOST", 0.0)  # as if each piece took long
    monkeypatch.setattr(deliver, "fan_out", lambda c, account_id: fan_out(c, account_id, most=3))
    async with receiving() as receiver:
        await harness.endpoint(receiver.url())
        for n in range(10):
            await harness.comes_in(text=f"{n}")
        async with delivering(harness.database, harness.time):
            webhook_calls = await receiver.until(10)
    assert [webhook_call.text for webhook_call in webhook_calls] == [f"{n}" for n in range(10)]


async def test_disabled_by_the_receiver_what_came_until_then_can_be_replayed(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    await harness.comes_in(text="gone")
    delivery = await harness.claim(endpoint)
    assert delivery is not None
    await harness.comes_in(text="not fanned out yet")
    now, gone = harness.time(), Answered(410)
    step = judge(gone, delivery.attempt, now, 0.5)
    await harness.database.write(lambda c: deliveries.record(c, delivery, gone, step, seconds=0.1, now=now))
    assert await harness.states() == {"failed": 2}


async def test_what_may_take_long_has_the_time_for_it_and_repairs_are_rare(
    harness: WebhookHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, asked = harness.database, []
    deliverer = deliver.Deliverer(database, SEALING, cast("Any", None), Metrics(), harness.time)
    read, write = database.read, database.write

    async def noted_write(work: Any, **options: Any) -> Any:
        asked.append(("write", options))
        return await write(work, **options)

    async def noted_read(work: Any, **options: Any) -> Any:
        asked.append(("read", options))
        return await read(work, **options)

    await harness.endpoint()
    for _ in range(2):
        await harness.comes_in()
    monkeypatch.setattr(database, "read", noted_read)
    monkeypatch.setattr(database, "write", noted_write)
    long = ("write", {"timeout": LONG_WORK})
    await deliverer._fan_out()
    # the second write finds that there is no more
    assert asked == [("read", {}), long, long]
    asked.clear()
    first = webhook_deliveries.update().where(webhook_deliveries.c.id == 1).values(state="delivered")
    await write(lambda c: c.execute(first) and None)
    await deliverer._repair()
    assert asked == [("read", {}), long]
    await deliverer._repair()
    assert len(asked) == 2, "a look every fifteen seconds is enough"
    deliverer._repaired -= 15.0
    await deliverer._repair()
    assert asked[2:] == [("read", {})]
    monkeypatch.setattr(Tasks, "keep", lambda *_arguments, **_options: None)
    asked.clear()
    await deliverer.start()
    # where other processes share the database, what they have claimed is theirs
    assert asked == ([] if database.shared else [long])


async def test_a_stop_claims_nothing_more_and_gives_back_what_is_due_at_once(harness: WebhookHarness) -> None:
    deliverer = deliver.Deliverer(harness.database, SEALING, cast("Any", None), Metrics(), harness.time)
    endpoint, _ = await harness.endpoint()
    await harness.comes_in()
    delivery = await harness.claim(endpoint)
    assert delivery is not None
    deliverer._in_flight[delivery.id] = delivery
    harness.time.now += 7
    await deliverer.stop(0.1)
    d = webhook_deliveries.c
    row = await harness.database.read(lambda c: c.execute(sa.select(d.state, d.due_at, d.attempts)).one())
    assert tuple(row) == ("pending", harness.time(), 1)
    deliverer._call(endpoint.account_id, endpoint.id)
    assert not any(deliverer._workers.values())
