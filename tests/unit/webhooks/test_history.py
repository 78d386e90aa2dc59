"""Deliveries of the past: replayed in their order, forgotten when they are old."""

from __future__ import annotations

from tests.harness.webhooks import WebhookHarness, text_of

from kurir.webhooks import endpoints, history
from kurir.webhooks.retry_schedule import Answered

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
