"""Attempts to deliver: each is counted before it is made, and kept also when it was cut off and ends late."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.harness.webhooks import WebhookHarness, text_of

from kurir.reasons import as_written
from kurir.webhooks import deliveries
from kurir.webhooks.deliveries import LEASE
from kurir.webhooks.retry_schedule import Answered, Unanswered
from kurir.webhooks.tables import webhook_attempts


async def test_a_try_that_was_cut_off_comes_again_with_the_same_id_and_body(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    await harness.comes_in(text="Halo")
    first = await harness.claim(endpoint)
    assert await harness.claim(endpoint) is None
    harness.time.now += LEASE
    again = await harness.claim(endpoint)
    assert first is not None
    assert again is not None
    assert (again.event_key, again.body, again.attempt) == (first.event_key, first.body, 2)
    # the lost try ends after all: its result is kept, but the delivery belongs to the later try
    await harness.record(first, Answered(500))
    assert await harness.states() == {"sending": 1}
    await harness.record(again)
    assert await harness.states() == {"delivered": 1}
    assert await harness.rows() == (1, 1, 2)


async def test_a_released_try_is_due_at_once(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    await harness.comes_in()
    delivery = await harness.claim(endpoint)
    assert delivery is not None
    await harness.database.write(lambda c: deliveries.release(c, delivery, harness.time()))
    assert await harness.claim(endpoint) is not None


@pytest.mark.parametrize("answer", [Answered(200), Answered(500)], ids=["success", "failure"])
async def test_the_late_end_of_a_lost_try_lets_nothing_pass_the_one_in_flight(
    harness: WebhookHarness, answer: Answered
) -> None:
    endpoint, _ = await harness.endpoint()
    for n in range(2):
        await harness.comes_in(text=f"{n}")
    lost = await harness.claim(endpoint)
    harness.time.now += LEASE
    again = await harness.claim(endpoint)
    assert lost is not None
    assert text_of(again) == "0"
    await harness.record(lost, answer)
    assert await harness.claim(endpoint) is None
    assert await harness.states() == {"sending": 1, "waiting": 1}


@pytest.mark.parametrize("answer", [Answered(200), Answered(500), None], ids=["success", "failure", "given back"])
async def test_what_was_ended_while_it_was_tried_stays_ended(harness: WebhookHarness, answer: Answered | None) -> None:
    endpoint, _ = await harness.endpoint()
    await harness.comes_in()
    delivery = await harness.claim(endpoint)
    assert delivery is not None
    await harness.database.write(lambda c: deliveries.end_open(c, endpoint.id, "canceled", harness.time()))
    if answer is None:
        await harness.database.write(lambda c: deliveries.release(c, delivery, harness.time()))
    else:
        await harness.record(delivery, answer)
    assert await harness.states() == {"canceled": 1}
    assert await harness.database.read(deliveries.first_due) == []


async def test_every_try_is_kept(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    await harness.comes_in()
    for answer in (
        Unanswered(as_written("the server could not be reached")),
        Answered(500, "", "boom" * 1000),
        Answered(204),
    ):
        delivery = await harness.claim(endpoint)
        assert delivery is not None
        await harness.record(delivery, answer)
        harness.time.now += 400
    a = webhook_attempts.c
    statement = sa.select(a.number, a.succeeded, a.status, a.reason, sa.func.length(a.answer)).order_by(a.id)
    kept = await harness.database.read(lambda c: [tuple(row) for row in c.execute(statement)])
    assert kept == [(1, 0, 0, "the server could not be reached", 0), (2, 0, 500, "", 1000), (3, 1, 204, "", 0)]
