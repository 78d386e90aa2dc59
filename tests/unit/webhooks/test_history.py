"""Deliveries of the past: replayed in their order, forgotten when they are old."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from tests.harness.webhooks import WebhookHarness, text_of

from kurir.reasons import as_written
from kurir.webhooks import endpoints, history
from kurir.webhooks.deliveries import LEASE, ClaimedDelivery
from kurir.webhooks.history import DeliveryRecord
from kurir.webhooks.retry_schedule import DELAYS, Answered, Unanswered
from kurir.webhooks.tables import webhook_deliveries

DAY = 86_400.0


async def test_replay_of_what_failed_keeps_the_order(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    for n in range(3):
        await harness.comes_in("628111", f"{n}")
    delivery = await harness.claim(endpoint)
    assert delivery is not None
    await harness.record(delivery, Answered(410))
    account_id, since = endpoint.account_id, harness.time() - 1
    # a disabled endpoint gets nothing
    assert await harness.database.write(lambda c: history.replay_failed(c, account_id, since, harness.time())) == 0
    await harness.database.write(lambda c: endpoints.enable(c, account_id, endpoint.id, harness.time()))
    assert await harness.database.write(lambda c: history.replay_failed(c, account_id, since + 2, harness.time())) == 0
    assert await harness.database.write(lambda c: history.replay_failed(c, account_id, since, harness.time())) == 3
    reported = []
    while again := await harness.claim(endpoint):
        assert again.attempt == 1
        reported.append((text_of(again), again.event_key))
        await harness.record(again)
    assert [t for t, _ in reported] == ["0", "1", "2"]
    assert reported[0][1] == delivery.event_key


async def test_replay_of_one_event_that_got_through(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    await harness.comes_in()
    first = await harness.claim(endpoint)
    assert first is not None
    await harness.record(first)
    replay = history.replay_event
    assert await harness.database.write(lambda c: replay(c, endpoint.account_id, first.event_key, harness.time())) == 1
    again = await harness.claim(endpoint)
    assert again is not None
    assert (again.event_key, again.body) == (first.event_key, first.body)
    # what is in flight is not started twice
    assert await harness.database.write(lambda c: replay(c, endpoint.account_id, first.event_key, harness.time())) == 0
    assert await harness.database.write(lambda c: replay(c, endpoint.account_id, "evt_none", harness.time())) == 0


async def test_old_events_are_forgotten_and_open_ones_stay(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    both, _ = await harness.endpoint()
    await harness.comes_in("628111", "told to one")
    delivery = await harness.claim(endpoint)
    assert delivery is not None
    await harness.record(delivery)
    harness.time.now += DAY
    assert await history.forget(harness.database, harness.time() - 60) == 1
    assert await harness.rows() == (1, 1, 0)
    assert text_of(await harness.claim(both)) == "told to one"


async def test_the_list_shows_each_delivery_with_its_last_try_newest_first(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    began = harness.time()
    await harness.comes_in("628111", "first")
    await harness.comes_in("628222", "second")

    async def latest(limit: int = 10) -> list[DeliveryRecord]:
        return await harness.database.read(lambda c: history.latest(c, endpoint.account_id, limit))

    first, second = await harness.claim(endpoint), await harness.claim(endpoint)
    assert first is not None
    assert second is not None

    def shown(delivery: ClaimedDelivery, **last: Any) -> DeliveryRecord:
        never_tried = {"state": "sending", "attempts": 1, "due_at": began + LEASE, "status": 0, "reason": ""}
        return DeliveryRecord(
            delivery.event_key, "incoming_chat", endpoint.key, created_at=began, **(never_tried | last)
        )

    assert await latest() == [shown(second), shown(first)]
    assert await latest(1) == [shown(second)]
    harness.time.now += 1
    await harness.record(first, Unanswered(as_written("refused")))
    due_at = harness.time() + DELAYS[0]
    failed = {"state": "pending", "due_at": due_at, "reason": "refused"}
    assert await latest() == [shown(second), shown(first, **failed)]
    harness.time.now = due_at
    again = await harness.claim(endpoint)
    assert again is not None
    await harness.record(again, Answered(503, "60"))
    failed = {"state": "pending", "attempts": 2, "due_at": due_at + DELAYS[1], "status": 503}
    assert (await latest())[1] == shown(first, **failed)
    assert await harness.database.read(lambda c: history.counts(c, endpoint.account_id)) == {
        endpoint.id: {"pending": 1, "sending": 1}
    }


async def test_a_replayed_delivery_begins_anew_and_waits_for_its_turn(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    for text in ("first", "second"):
        await harness.comes_in("628111", text)
        delivery = await harness.claim(endpoint)
        assert delivery is not None
        await harness.record(delivery)
    await harness.comes_in("628111", "third")
    third = await harness.claim(endpoint)
    assert third is not None
    d = webhook_deliveries.c

    async def rows() -> list[tuple[Any, ...]]:
        columns = (d.state, d.in_order, d.attempts, d.due_at, d.ended_at)
        return await harness.database.read(
            lambda c: [tuple(row) for row in c.execute(sa.select(*columns).order_by(d.id))]
        )

    harness.time.now += 10
    now, account_id = harness.time(), endpoint.account_id
    assert await harness.database.write(lambda c: history.replay_delivery(c, account_id, 2, now)) == 1
    before, in_flight = now - 10, ("sending", 1, 1, now - 10 + LEASE, None)
    assert await rows() == [("delivered", 1, 1, before + LEASE, before), ("waiting", 1, 0, now, None), in_flight]
    assert await harness.database.write(lambda c: history.replay_delivery(c, account_id, 3, now)) == 0
    assert await harness.database.write(lambda c: history.replay_delivery(c, account_id + 1, 2, now)) == 0
    await harness.record(third)
    again = await harness.claim(endpoint)
    assert again is not None
    assert (text_of(again), again.attempt) == ("second", 1)
    await harness.database.write(lambda c: endpoints.disable(c, account_id, endpoint.id, as_written("off")))
    assert await harness.database.write(lambda c: history.replay_delivery(c, account_id, 1, now)) == 0
