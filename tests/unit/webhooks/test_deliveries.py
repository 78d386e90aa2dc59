"""Deliveries of an endpoint: in order per chat, other chats side by side, by indexes only."""

from __future__ import annotations

import sqlalchemy as sa
from tests.harness.webhooks import WebhookHarness, text_of

from kurir.reasons import as_written
from kurir.webhooks import deliveries, endpoints
from kurir.webhooks.deliveries import ClaimedDelivery
from kurir.webhooks.retry_schedule import DELAYS, FAILING, MOST_ATTEMPTS, Answered, Unanswered
from kurir.webhooks.tables import webhook_attempts, webhook_deliveries


async def test_a_chats_events_are_delivered_in_order_and_chats_side_by_side(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    for chat in ("628111", "628222"):
        for n in range(3):
            await harness.comes_in(chat, f"{chat}-{n}")
    for n in range(3):
        deliveries_ = await harness.claim_all(endpoint)
        assert sorted(text_of(p) for p in deliveries_) == [f"628111-{n}", f"628222-{n}"]
        for delivery in deliveries_:
            await harness.record(delivery)
    assert await harness.states() == {"delivered": 6}


async def test_a_chat_waits_for_its_failing_event_while_the_receiver_is_down(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    await harness.comes_in(text="first")
    await harness.comes_in(text="second")
    for delay in DELAYS:
        delivery = await harness.claim(endpoint)
        assert text_of(delivery) == "first"
        assert delivery is not None
        await harness.record(delivery, Unanswered(as_written("down")))
        assert await harness.claim(endpoint) is None
        harness.time.now += delay + 1
    delivery = await harness.claim(endpoint)
    assert delivery is not None
    assert delivery.attempt == MOST_ATTEMPTS
    await harness.record(delivery, Unanswered(as_written("down")))
    assert text_of(await harness.claim(endpoint)) == "second"
    assert await harness.states() == {"failed": 1, "sending": 1}


async def test_an_event_that_a_receiver_chokes_on_gives_way(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    await harness.comes_in("628111", "poison")
    await harness.comes_in("628111", "next")
    for delay in DELAYS[:2]:
        delivery = await harness.claim(endpoint)
        assert delivery is not None
        await harness.record(delivery, Answered(500))
        harness.time.now += delay + 1
    await harness.comes_in("628222", "another chat")
    others = {text_of(p): p for p in await harness.claim_all(endpoint)}
    assert set(others) == {"poison", "another chat"}
    await harness.record(others["another chat"])
    await harness.record(others["poison"], Answered(500))
    after = await harness.claim(endpoint)
    assert text_of(after) == "next"
    assert after is not None
    await harness.record(after)
    await harness.comes_in("628111", "later")
    later = await harness.claim(endpoint)
    assert text_of(later) == "later"
    assert later is not None
    await harness.record(later)
    harness.time.now += DELAYS[2] * 1.2
    assert text_of(await harness.claim(endpoint)) == "poison"


async def test_when_a_receiver_is_back_what_waits_in_order_is_due(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    elsewhere, _ = await harness.endpoint()
    for n in range(FAILING + 1):
        await harness.comes_in(f"62811{n}", f"waits {n}")
    deliveries_ = await harness.claim_all(endpoint)
    [also, *_] = await harness.claim_all(elsewhere)
    await harness.record(also, Answered(500))
    harness.time.now += 1
    for delivery in deliveries_[:-1]:
        await harness.record(delivery, Answered(503, "3600"))
    assert await harness.claim(endpoint) is None
    await harness.comes_in("628222", "another chat")
    [in_flight_ids] = await harness.claim_all(endpoint)
    harness.time.now += 1
    await harness.record(deliveries_[-1])  # a success after failures only
    due = await harness.claim_all(endpoint)
    # what is in flight stays in flight, and no other receiver's events are due by that
    assert sorted(text_of(p) for p in due) == [f"waits {n}" for n in range(FAILING)]
    assert [text_of(p) for p in await harness.claim_all(elsewhere)] == ["another chat"]
    # it is not back once more: nothing failed since
    await harness.record(due[0], Answered(503, "3600"))
    harness.time.now += 1
    await harness.record(in_flight_ids)
    assert await harness.claim(endpoint) is None


async def test_a_chat_that_was_left_waiting_is_mended(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    for n in range(3):
        await harness.comes_in("628111", f"{n}")
    await harness.comes_in("628222", "fine")
    await harness.fan_out()
    first = webhook_deliveries.update().where(webhook_deliveries.c.id == 1).values(state="delivered")
    await harness.database.write(lambda c: c.execute(first))
    assert await harness.database.read(deliveries.stranded) == [(endpoint.id, harness.harness.number.id, "628111")]
    assert await harness.database.write(lambda c: deliveries.repair(c, harness.time())) == 1
    assert sorted(text_of(p) for p in await harness.claim_all(endpoint)) == ["1", "fine"]
    assert await harness.database.read(deliveries.stranded) == []


async def test_hot_questions_use_their_indexes(harness: WebhookHarness) -> None:
    plans: list[str] = []
    tables = ("webhook_deliveries", "webhook_attempts", "events")
    await harness.endpoint()
    endpoint, _ = await harness.endpoint()

    @sa.event.listens_for(harness.database.engine, "before_cursor_execute")
    def explain(connection, cursor, statement, parameters, context, executemany):
        if not any(table in statement for table in tables) or statement.startswith(("EXPLAIN", "INSERT INTO events")):
            return
        if connection.dialect.name == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")  # the table is tiny
            cursor.execute("EXPLAIN " + statement, parameters)
        else:
            cursor.execute("EXPLAIN QUERY PLAN " + statement, parameters)
        plans.extend(row[-1] for row in cursor.fetchall())

    await harness.comes_in()
    await harness.database.read(deliveries.first_due)
    delivery = await harness.claim(endpoint)
    assert delivery is not None
    await harness.record(delivery)
    scans = [p for p in plans if p.startswith("SCAN") or any(f"Seq Scan on {table}" in p for table in tables)]
    scans = [plan for plan in scans if not any(fine in plan for fine in ("webhook_endpoints", "subquery"))]
    assert scans == []
    assert any("ix_webhook_deliveries_due" in plan for plan in plans)
    assert any("ix_webhook_deliveries_order" in plan for plan in plans)
    assert sum("ix_webhook_attempts_health" in plan for plan in plans) == 2


async def test_chats_of_the_same_name_on_two_numbers_or_endpoints_are_mended_apart(harness: WebhookHarness) -> None:
    first, _ = await harness.endpoint()
    second, _ = await harness.endpoint()
    numbers = (harness.harness.number, harness.harness.other)
    for number in numbers:
        for _ in range(2):
            await harness.comes_in("628111", number=number)
    await harness.fan_out()
    d = webhook_deliveries.c
    left = webhook_deliveries.update().where(
        d.endpoint_id == second.id, d.number_id == numbers[0].id, d.state == "pending"
    )
    await harness.database.write(lambda c: c.execute(left.values(state="delivered")) and None)
    assert await harness.database.read(deliveries.stranded) == [(second.id, numbers[0].id, "628111")]
    assert await harness.database.write(lambda c: deliveries.repair(c, harness.time() + 5)) == 1
    due = (
        sa.select(d.endpoint_id, d.number_id, d.due_at).where(d.state == "pending").order_by(d.endpoint_id, d.number_id)
    )
    assert await harness.database.read(lambda c: [tuple(row) for row in c.execute(due)]) == [
        (first.id, numbers[0].id, harness.time()),
        (first.id, numbers[1].id, harness.time()),
        (second.id, numbers[0].id, harness.time() + 5),
        (second.id, numbers[1].id, harness.time()),
    ]


async def test_what_an_endpoint_has_next_is_listed_with_its_account(harness: WebhookHarness) -> None:
    theirs = await harness.tenant()
    ours, _ = await harness.endpoint()
    off, _ = await harness.endpoint()
    foreign, _ = await harness.endpoint(account_id=theirs.account_id)
    await harness.comes_in("628111")
    harness.time.now += 1
    await harness.comes_in("628222")
    await harness.comes_in("628222", number=theirs)
    await harness.fan_out()
    began, account_id = harness.time() - 1, harness.harness.number.account_id
    await harness.database.write(lambda c: endpoints.disable(c, account_id, off.id, as_written("off")))
    expected = [(account_id, ours.id, began), (theirs.account_id, foreign.id, began + 1)]
    assert sorted(await harness.database.read(deliveries.first_due)) == expected
    delivery = await harness.claim(ours)
    assert delivery is not None
    expected[0] = (account_id, ours.id, began + 1)
    assert sorted(await harness.database.read(deliveries.first_due)) == expected
    await harness.database.write(lambda c: endpoints.remove(c, account_id, ours.id, harness.time()))
    assert await harness.database.read(deliveries.first_due) == expected[1:]


async def test_a_claimed_delivery_has_all_that_its_post_needs(harness: WebhookHarness) -> None:
    endpoint, secret = await harness.endpoint("http://127.0.0.1:9/hook")
    await harness.comes_in("628111", "first")
    await harness.comes_in("628111", "second")
    number, created = harness.harness.number, harness.time()
    harness.time.now += 1
    delivery = await harness.claim(endpoint)
    event = await harness.database.read(lambda c: c.exec_driver_sql("SELECT key, type, body FROM events").first())
    assert event is not None
    expected = ClaimedDelivery(
        id=1,
        account_id=number.account_id,
        endpoint_id=endpoint.id,
        endpoint_key=endpoint.key,
        number_id=number.id,
        number_key=number.key,
        chat="628111",
        in_order=True,
        attempt=1,
        created_at=created,
        url="http://127.0.0.1:9/hook",
        secrets=[secret],
        event_key=event.key,
        event_type="incoming_chat",
        body=event.body,
    )
    assert delivery == expected
    assert repr(delivery) == f"ClaimedDelivery({event.key} to {endpoint.key})", "a log shows no secret and no text"


async def test_a_try_is_kept_with_its_time_and_how_long_it_took(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    await harness.comes_in()
    delivery = await harness.claim(endpoint)
    assert delivery is not None
    harness.time.now += 3
    await harness.record(delivery, Answered(500, "", "oops"))
    row = await harness.database.read(lambda c: c.execute(sa.select(webhook_attempts)).one())
    assert dict(row._mapping) == {
        "id": 1,
        "account_id": endpoint.account_id,
        "endpoint_id": endpoint.id,
        "delivery_id": delivery.id,
        "number": 1,
        "at": harness.time(),
        "seconds": 0.1,
        "succeeded": 0,
        "status": 500,
        "reason": "",
        "answer": "oops",
    }


async def test_what_got_through_before_an_event_does_not_make_it_give_way(harness: WebhookHarness) -> None:
    """The receiver may have gone down since."""
    endpoint, _ = await harness.endpoint()
    await harness.comes_in("628222", "got through")
    earlier = await harness.claim(endpoint)
    assert earlier is not None
    await harness.record(earlier)
    harness.time.now += 1
    await harness.comes_in("628111", "first")
    await harness.comes_in("628111", "second")
    for delay in DELAYS[:4]:
        delivery = await harness.claim(endpoint)
        assert text_of(delivery) == "first"
        assert delivery is not None
        await harness.record(delivery, Answered(500))
        assert await harness.claim(endpoint) is None
        harness.time.now += delay + 1
