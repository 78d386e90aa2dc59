"""What must be told: written with the change, in order per chat, counted before the try, never another account's."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa
from tests.webhook_desk import SEALING, WebhookDesk

from kurir import number_status
from kurir.accounts import accounts
from kurir.kit.url_rules import Allowed, UrlRefused
from kurir.messages.reports import ConnectionChanged, InDoubt, Refused, Sent, StatusChanged
from kurir.numbers import numbers
from kurir.webhooks import deliveries, endpoints, history
from kurir.webhooks.deliveries import LEASE, ClaimedDelivery
from kurir.webhooks.endpoints import EndpointError
from kurir.webhooks.schedule import DEAD_AFTER, DELAYS, FAILING, MOST_ATTEMPTS, Answered, Unanswered
from kurir.webhooks.tables import webhook_attempts, webhook_deliveries, webhook_endpoints

DAY = 86_400.0


def text(delivery: ClaimedDelivery | None) -> str:
    assert delivery is not None
    return json.loads(delivery.body)["data"]["message_body"]


# -- written with the change -------------------------------------------------------------------------------------------


async def test_nothing_is_written_while_nobody_listens(desk: WebhookDesk) -> None:
    await desk.comes_in()
    await desk.desk.outbox.accept([desk.desk.draft()])
    (claimed,) = await desk.desk.claim()
    await desk.desk.outbox.record(claimed, Sent("3EB0"))
    assert await desk.rows() == (0, 0, 0)


async def test_a_message_that_is_stored_twice_is_told_once(desk: WebhookDesk) -> None:
    endpoint, _ = await desk.endpoint()
    remote_id = await desk.comes_in(text="Halo")
    delivery = await desk.claim(endpoint)
    assert delivery is not None
    data = json.loads(delivery.body)["data"]
    assert (data["message_id"], data["message_body"], data["chat_id"]) == (remote_id, "Halo", "628111@c.us")
    assert delivery.number_key == desk.desk.number.key
    assert delivery.event_key.startswith("evt_")


async def test_a_change_that_is_undone_tells_nothing(desk: WebhookDesk) -> None:
    await desk.endpoint()

    def work(connection: sa.Connection) -> None:
        deliveries.publish(
            connection, desk.desk.number.account_id, desk.desk.number.id, "incoming_chat", "x", body=_unused, now=1.0
        )
        raise RuntimeError("undone")

    with pytest.raises(RuntimeError, match="undone"):
        await desk.database.write(work)
    assert await desk.rows() == (0, 0, 0)


def _unused():
    from kurir.webhooks.events import Test

    return Test(message="", timestamp=0)


async def test_filters_by_event_and_number(desk: WebhookDesk) -> None:
    everything, _ = await desk.endpoint(events=["incoming_chat", "message_status", "device_status"])
    other_number, _ = await desk.endpoint(number_id=desk.desk.other.id)
    await desk.comes_in(number=desk.desk.number, text="one")
    await desk.comes_in(number=desk.desk.other, text="two")
    number = desk.desk.number
    await desk.inbox.take([(ConnectionChanged(number.account_id, number.id, "connected", "", desk.time()), "")])
    # the same state again is no news
    await desk.inbox.take([(ConnectionChanged(number.account_id, number.id, "connected", "", desk.time()), "")])
    assert sorted(p.event_type for p in await desk.claim_all(everything)) == [
        "device_status",
        "incoming_chat",
        "incoming_chat",
    ]
    assert [text(p) for p in await desk.claim_all(other_number)] == ["two"]


async def test_a_restriction_is_told_when_it_begins_and_when_it_ends_and_not_between(desk: WebhookDesk) -> None:
    endpoint, _ = await desk.endpoint(events=["device_status"])
    number = desk.desk.number
    for until in (1_800_003_600.0, 1_800_007_200.0, None, None):
        restriction = numbers.Restriction(until, 3600.0) if until is not None else None
        await desk.database.write(
            lambda c, r=restriction: number_status.restrict(c, number.account_id, number.id, r, desk.time())
        )
    bodies = []
    while delivery := await desk.claim(endpoint):
        bodies.append(json.loads(delivery.body)["data"])
        await desk.record(delivery)
    assert [(body["state"], body["reason"]) for body in bodies] == [
        ("restricted", numbers.restricted_reason(1_800_003_600.0)),
        (number.state, ""),
    ]
    assert "until 2027-01-15 09:00 UTC" in bodies[0]["reason"]


async def test_a_sent_message_is_told_with_every_state_and_as_the_devices_own(desk: WebhookDesk) -> None:
    endpoint, _ = await desk.endpoint(events=["incoming_chat", "message_status"])
    await desk.desk.outbox.accept([desk.desk.draft(body="Pesanan siap")])
    (claimed,) = await desk.desk.claim()
    await desk.desk.outbox.record(claimed, Sent("3EB0FF"))
    number = desk.desk.number
    for status in ("delivered", "delivered", "read", "delivered"):
        event = StatusChanged(number.account_id, number.id, "3EB0FF", status, desk.time())
        await desk.inbox.take([(event, "")])
    reported = []
    while delivery := await desk.claim(endpoint):
        reported.append(json.loads(delivery.body))
        await desk.record(delivery)
    assert [t["type"] for t in reported] == ["incoming_chat"] + ["message_status"] * 3
    assert [t["data"]["status"] for t in reported[1:]] == ["sent", "delivered", "read"]
    own = reported[0]["data"]
    assert (own["is_from_me"], own["message_body"], own["message_id"]) == (True, "Pesanan siap", "3EB0FF")
    assert {t["data"]["remote_id"] for t in reported[1:]} == {"3EB0FF"}


async def test_a_secret_message_keeps_its_secret(desk: WebhookDesk) -> None:
    endpoint, _ = await desk.endpoint(events=["incoming_chat", "message_status"])
    await desk.desk.outbox.accept([desk.desk.draft(body="Kode Anda 918273", sealed=True)])
    (claimed,) = await desk.desk.claim()
    await desk.desk.outbox.record(claimed, Sent("3EB0FF"))
    deliveries_ = []
    while delivery := await desk.claim(endpoint):
        deliveries_.append(delivery)
        await desk.record(delivery)
    assert len(deliveries_) == 2
    assert not any("918273" in delivery.body for delivery in deliveries_)


@pytest.mark.parametrize("how", ["refused", "expired", "expired while claimed", "canceled", "doubt"])
async def test_other_ends_are_told(desk: WebhookDesk, how: str) -> None:
    endpoint, _ = await desk.endpoint(events=["message_status"])
    accepted = await desk.desk.outbox.accept([desk.desk.draft(lifetime=60.0)])
    match how:
        case "refused":
            (claimed,) = await desk.desk.claim()
            await desk.desk.outbox.record(claimed, Refused("131026", "not on WhatsApp"))
            wanted = ("failed", "131026")
        case "expired":
            desk.time.now += 61
            assert await desk.desk.outbox.expire() == 1
            wanted = ("expired", "expired")
        case "expired while claimed":
            desk.time.now += 61
            assert await desk.desk.claim() == []
            wanted = ("expired", "expired")
        case "canceled":
            (message_id,) = accepted.ids
            await desk.desk.outbox.cancel(endpoint.account_id, message_id)
            wanted = ("canceled", "")
        case _:
            (claimed,) = await desk.desk.claim()
            await desk.desk.outbox.record(claimed, InDoubt("no answer"))
            wanted = ("unconfirmed", "in_doubt")
    delivery = await desk.claim(endpoint)
    assert delivery is not None
    data = json.loads(delivery.body)["data"]
    assert (data["status"], data["error_code"]) == wanted
    assert await desk.claim(endpoint) is None


async def test_no_account_is_told_of_another(desk: WebhookDesk) -> None:
    def stranger(connection: sa.Connection) -> numbers.Number:
        account = accounts.create(connection, name="b", email="b@example.com")
        return numbers.add_linked_device(connection, account.id)

    theirs = await desk.database.write(stranger)
    ours, _ = await desk.endpoint()
    foreign, _ = await desk.endpoint(account_id=theirs.account_id)
    await desk.comes_in(text="ours")
    await desk.comes_in(text="theirs", number=theirs)
    mine, yours = await desk.claim_all(ours), await desk.claim_all(foreign)
    assert [text(p) for p in mine] == ["ours"]
    assert [text(p) for p in yours] == ["theirs"]
    assert {p.number_key for p in yours} == {theirs.key}

    our_id, their_id = desk.desk.number.account_id, theirs.account_id
    for delivery in mine:
        await desk.record(delivery, Answered(410))

    def questions(connection: sa.Connection) -> list:
        return [
            endpoints.by_key(connection, their_id, ours.key),
            [e.key for e in endpoints.of_account(connection, their_id)],
            history.replay_event(connection, their_id, mine[0].event_key, 1.0),
            history.replay_failed(connection, their_id, 0.0, 1.0),
            [reported.event_key for reported in history.latest(connection, their_id, 10)],
            history.counts(connection, their_id),
        ]

    foreign_events = [yours[0].event_key]
    assert await desk.database.write(questions) == [
        None, [foreign.key], 0, 0, foreign_events, {foreign.id: {"sending": 1}},
    ]  # fmt: skip
    assert our_id != their_id


# -- order -------------------------------------------------------------------------------------------------------------


async def test_a_chat_is_told_one_after_the_other_and_chats_side_by_side(desk: WebhookDesk) -> None:
    endpoint, _ = await desk.endpoint()
    for chat in ("628111", "628222"):
        for n in range(3):
            await desk.comes_in(chat, f"{chat}-{n}")
    for n in range(3):
        deliveries_ = await desk.claim_all(endpoint)
        assert sorted(text(p) for p in deliveries_) == [f"628111-{n}", f"628222-{n}"]
        for delivery in deliveries_:
            await desk.record(delivery)
    assert await desk.states() == {"delivered": 6}


async def test_a_chat_waits_for_its_failing_event_while_the_receiver_is_down(desk: WebhookDesk) -> None:
    endpoint, _ = await desk.endpoint()
    await desk.comes_in(text="first")
    await desk.comes_in(text="second")
    for delay in DELAYS:
        delivery = await desk.claim(endpoint)
        assert text(delivery) == "first"
        assert delivery is not None
        await desk.record(delivery, Unanswered("down"))
        assert await desk.claim(endpoint) is None
        desk.time.now += delay + 1
    delivery = await desk.claim(endpoint)
    assert delivery is not None
    assert delivery.attempt == MOST_ATTEMPTS
    await desk.record(delivery, Unanswered("down"))
    assert text(await desk.claim(endpoint)) == "second"
    assert await desk.states() == {"failed": 1, "sending": 1}


async def test_an_event_that_a_receiver_chokes_on_gives_way(desk: WebhookDesk) -> None:
    endpoint, _ = await desk.endpoint()
    await desk.comes_in("628111", "poison")
    await desk.comes_in("628111", "next")
    for delay in DELAYS[:2]:
        delivery = await desk.claim(endpoint)
        assert delivery is not None
        await desk.record(delivery, Answered(500))
        desk.time.now += delay + 1
    await desk.comes_in("628222", "another chat")
    others = {text(p): p for p in await desk.claim_all(endpoint)}
    assert set(others) == {"poison", "another chat"}
    await desk.record(others["another chat"])
    await desk.record(others["poison"], Answered(500))
    after = await desk.claim(endpoint)
    assert text(after) == "next"
    assert after is not None
    await desk.record(after)
    await desk.comes_in("628111", "later")
    later = await desk.claim(endpoint)
    assert text(later) == "later"
    assert later is not None
    await desk.record(later)
    desk.time.now += DELAYS[2] * 1.2
    assert text(await desk.claim(endpoint)) == "poison"


async def test_when_a_receiver_is_back_what_waits_in_order_is_due(desk: WebhookDesk) -> None:
    endpoint, _ = await desk.endpoint()
    elsewhere, _ = await desk.endpoint()
    for n in range(FAILING + 1):
        await desk.comes_in(f"62811{n}", f"waits {n}")
    deliveries_ = await desk.claim_all(endpoint)
    [also, *_] = await desk.claim_all(elsewhere)
    await desk.record(also, Answered(500))
    desk.time.now += 1
    for delivery in deliveries_[:-1]:
        await desk.record(delivery, Answered(503, "3600"))
    assert await desk.claim(endpoint) is None
    await desk.comes_in("628222", "another chat")
    [in_flight_ids] = await desk.claim_all(endpoint)
    desk.time.now += 1
    await desk.record(deliveries_[-1])  # a success after failures only
    due = await desk.claim_all(endpoint)
    # what is in flight stays in flight, and no other receiver's events are due by that
    assert sorted(text(p) for p in due) == [f"waits {n}" for n in range(FAILING)]
    assert [text(p) for p in await desk.claim_all(elsewhere)] == ["another chat"]
    # it is not back once more: nothing failed since
    await desk.record(due[0], Answered(503, "3600"))
    desk.time.now += 1
    await desk.record(in_flight_ids)
    assert await desk.claim(endpoint) is None


# -- tries -------------------------------------------------------------------------------------------------------------


async def test_a_try_that_was_cut_off_comes_again_with_the_same_id_and_body(desk: WebhookDesk) -> None:
    endpoint, _ = await desk.endpoint()
    await desk.comes_in(text="Halo")
    first = await desk.claim(endpoint)
    assert await desk.claim(endpoint) is None
    desk.time.now += LEASE
    again = await desk.claim(endpoint)
    assert first is not None
    assert again is not None
    assert (again.event_key, again.body, again.attempt) == (first.event_key, first.body, 2)
    # the lost try ends after all: its result is kept, but the delivery belongs to the later try
    await desk.record(first, Answered(500))
    assert await desk.states() == {"sending": 1}
    await desk.record(again)
    assert await desk.states() == {"delivered": 1}
    assert await desk.rows() == (1, 1, 2)


async def test_a_released_try_is_due_at_once(desk: WebhookDesk) -> None:
    endpoint, _ = await desk.endpoint()
    await desk.comes_in()
    delivery = await desk.claim(endpoint)
    assert delivery is not None
    await desk.database.write(lambda c: deliveries.release(c, delivery, desk.time()))
    assert await desk.claim(endpoint) is not None


@pytest.mark.parametrize("answer", [Answered(200), Answered(500)], ids=["success", "failure"])
async def test_the_late_end_of_a_lost_try_lets_nothing_pass_the_one_in_flight(
    desk: WebhookDesk, answer: Answered
) -> None:
    endpoint, _ = await desk.endpoint()
    for n in range(2):
        await desk.comes_in(text=f"{n}")
    lost = await desk.claim(endpoint)
    desk.time.now += LEASE
    again = await desk.claim(endpoint)
    assert lost is not None
    assert text(again) == "0"
    await desk.record(lost, answer)
    assert await desk.claim(endpoint) is None
    assert await desk.states() == {"sending": 1, "waiting": 1}


@pytest.mark.parametrize("answer", [Answered(200), Answered(500), None], ids=["success", "failure", "given back"])
async def test_what_was_ended_while_it_was_tried_stays_ended(desk: WebhookDesk, answer: Answered | None) -> None:
    endpoint, _ = await desk.endpoint()
    await desk.comes_in()
    delivery = await desk.claim(endpoint)
    assert delivery is not None
    await desk.database.write(lambda c: deliveries.end_open(c, endpoint.id, "canceled", desk.time()))
    if answer is None:
        await desk.database.write(lambda c: deliveries.release(c, delivery, desk.time()))
    else:
        await desk.record(delivery, answer)
    assert await desk.states() == {"canceled": 1}
    assert await desk.database.read(deliveries.first_due) == []


async def test_every_try_is_kept(desk: WebhookDesk) -> None:
    endpoint, _ = await desk.endpoint()
    await desk.comes_in()
    for answer in (Unanswered("the server could not be reached"), Answered(500, "", "boom" * 1000), Answered(204)):
        delivery = await desk.claim(endpoint)
        assert delivery is not None
        await desk.record(delivery, answer)
        desk.time.now += 400
    a = webhook_attempts.c
    statement = sa.select(a.number, a.succeeded, a.status, a.reason, sa.func.length(a.answer)).order_by(a.id)
    kept = await desk.database.read(lambda c: [tuple(row) for row in c.execute(statement)])
    assert kept == [(1, 0, 0, "the server could not be reached", 0), (2, 0, 500, "", 1000), (3, 1, 204, "", 0)]


async def test_gone_disables_and_ends_what_waits(desk: WebhookDesk) -> None:
    endpoint, _ = await desk.endpoint()
    await desk.comes_in("628111")
    await desk.comes_in("628111")
    await desk.comes_in("628222")
    delivery = await desk.claim(endpoint)
    assert delivery is not None
    assert "410" in await desk.record(delivery, Answered(410))
    assert await desk.states() == {"failed": 3}
    await desk.comes_in("628333")
    assert await desk.claim(endpoint) is None
    assert (await desk.rows())[0] == 3

    account_id = desk.desk.number.account_id
    found = await desk.database.read(lambda c: endpoints.by_key(c, account_id, endpoint.key))
    assert found is not None
    assert (found.state, found.state_reason) == ("disabled", "the receiver answered 410 (Gone)")


async def test_days_of_nothing_but_failures_disable_and_one_success_does_not(desk: WebhookDesk) -> None:
    endpoint, _ = await desk.endpoint()
    await desk.comes_in()
    delivery = await desk.claim(endpoint)
    assert delivery is not None
    assert await desk.record(delivery) == ""

    async def fail() -> str:
        await desk.comes_in(f"6281{desk.time.now:.0f}")
        delivery = await desk.claim(endpoint)
        assert delivery is not None
        return await desk.record(delivery, Answered(500))

    desk.time.now += DAY
    assert await fail() == ""
    desk.time.now += DEAD_AFTER - DAY
    await desk.comes_in("628999")
    good = [p for p in await desk.claim_all(endpoint) if p.chat == "628999"]
    assert await desk.record(good[0]) == ""
    desk.time.now += DAY
    assert await fail() == ""
    desk.time.now += DEAD_AFTER - 1
    assert await fail() == ""
    desk.time.now += 1
    assert "5 days" in await fail()
    # enabled again, it has another chance
    await desk.database.write(lambda c: endpoints.enable(c, endpoint.account_id, endpoint.id, desk.time()))
    assert await fail() == ""


# -- by hand -----------------------------------------------------------------------------------------------------------


async def test_replay_of_what_failed_keeps_the_order(desk: WebhookDesk) -> None:
    endpoint, _ = await desk.endpoint()
    for n in range(3):
        await desk.comes_in("628111", f"{n}")
    delivery = await desk.claim(endpoint)
    assert delivery is not None
    await desk.record(delivery, Answered(410))
    account_id, since = endpoint.account_id, desk.time() - 1
    # a disabled endpoint gets nothing
    assert await desk.database.write(lambda c: history.replay_failed(c, account_id, since, desk.time())) == 0
    await desk.database.write(lambda c: endpoints.enable(c, account_id, endpoint.id, desk.time()))
    assert await desk.database.write(lambda c: history.replay_failed(c, account_id, since + 2, desk.time())) == 0
    assert await desk.database.write(lambda c: history.replay_failed(c, account_id, since, desk.time())) == 3
    reported = []
    while again := await desk.claim(endpoint):
        assert again.attempt == 1
        reported.append((text(again), again.event_key))
        await desk.record(again)
    assert [t for t, _ in reported] == ["0", "1", "2"]
    assert reported[0][1] == delivery.event_key


async def test_replay_of_one_event_that_got_through(desk: WebhookDesk) -> None:
    endpoint, _ = await desk.endpoint()
    await desk.comes_in()
    first = await desk.claim(endpoint)
    assert first is not None
    await desk.record(first)
    replay = history.replay_event
    assert await desk.database.write(lambda c: replay(c, endpoint.account_id, first.event_key, desk.time())) == 1
    again = await desk.claim(endpoint)
    assert again is not None
    assert (again.event_key, again.body) == (first.event_key, first.body)
    # what is in flight is not started twice
    assert await desk.database.write(lambda c: replay(c, endpoint.account_id, first.event_key, desk.time())) == 0
    assert await desk.database.write(lambda c: replay(c, endpoint.account_id, "evt_none", desk.time())) == 0


async def test_a_chat_that_was_left_waiting_is_mended(desk: WebhookDesk) -> None:
    endpoint, _ = await desk.endpoint()
    for n in range(3):
        await desk.comes_in("628111", f"{n}")
    await desk.comes_in("628222", "fine")
    first = webhook_deliveries.update().where(webhook_deliveries.c.id == 1).values(state="delivered")
    await desk.database.write(lambda c: c.execute(first))
    assert await desk.database.read(deliveries.stranded) == [(endpoint.id, desk.desk.number.id, "628111")]
    assert await desk.database.write(lambda c: deliveries.repair(c, desk.time())) == 1
    assert sorted(text(p) for p in await desk.claim_all(endpoint)) == ["1", "fine"]
    assert await desk.database.read(deliveries.stranded) == []


async def test_a_removed_endpoint_is_forgotten_with_its_secret(desk: WebhookDesk) -> None:
    endpoint, _ = await desk.endpoint()
    await desk.comes_in()

    def work(connection: sa.Connection) -> None:
        endpoints.remove(connection, endpoint.account_id, endpoint.id, desk.time())
        deliveries.end_open(connection, endpoint.id, "canceled", desk.time())

    await desk.database.write(work)
    await desk.comes_in()
    assert await desk.states() == {"canceled": 1}
    assert await desk.claim(endpoint) is None
    row = await desk.database.read(lambda c: c.execute(sa.select(webhook_endpoints)).one())
    assert row.secret_sealed == row.old_secret_sealed == ""


async def test_old_events_are_forgotten_and_open_ones_stay(desk: WebhookDesk) -> None:
    endpoint, _ = await desk.endpoint()
    both, _ = await desk.endpoint()
    await desk.comes_in("628111", "told to one")
    delivery = await desk.claim(endpoint)
    assert delivery is not None
    await desk.record(delivery)
    desk.time.now += DAY
    assert await history.forget(desk.database, desk.time() - 60) == 1
    assert await desk.rows() == (1, 1, 0)
    assert text(await desk.claim(both)) == "told to one"


# -- endpoints ---------------------------------------------------------------------------------------------------------


async def test_secrets_are_sealed_and_two_live_while_rotating(desk: WebhookDesk) -> None:
    endpoint, first = await desk.endpoint()
    row = await desk.database.read(lambda c: c.execute(sa.select(webhook_endpoints)).one())
    assert first not in str(row)
    second = await desk.database.write(lambda c: endpoints.rotate(c, SEALING, endpoint, desk.time()))

    async def live() -> list[str]:
        return await desk.database.read(
            lambda c: endpoints.secrets(c, SEALING, endpoint.account_id, endpoint.id, desk.time())
        )

    assert await live() == [second, first]
    desk.time.now += endpoints.OVERLAP
    assert await live() == [second]
    third = await desk.database.write(lambda c: endpoints.rotate(c, SEALING, endpoint, desk.time()))
    assert await live() == [third, second]


@pytest.mark.parametrize("url", ["http://127.0.0.1/x", "http://10.0.0.8/", "ftp://example.com/", "x", "http://a@b.c/"])
async def test_addresses_that_are_never_posted_to(desk: WebhookDesk, url: str) -> None:
    with pytest.raises(UrlRefused):
        await desk.database.write(
            lambda c: endpoints.add(c, SEALING, desk.desk.number.account_id, url, allowed=Allowed(), now=1.0)
        )
    assert await desk.database.read(lambda c: endpoints.of_account(c, desk.desk.number.account_id)) == []


@pytest.mark.parametrize("events", [["incoming_chat", "nonsense"], []])
async def test_only_known_events(desk: WebhookDesk, events: list[str]) -> None:
    with pytest.raises(EndpointError, match="event: expected"):
        await desk.endpoint(events=events)


async def test_hot_questions_use_their_indexes(desk: WebhookDesk) -> None:
    plans: list[str] = []
    tables = ("webhook_deliveries", "webhook_attempts")
    await desk.endpoint()
    endpoint, _ = await desk.endpoint()

    @sa.event.listens_for(desk.database.engine, "before_cursor_execute")
    def explain(connection, cursor, statement, parameters, context, executemany):
        if not any(table in statement for table in tables) or statement.startswith(("EXPLAIN", "INSERT")):
            return
        if connection.dialect.name == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")  # the table is tiny
            cursor.execute("EXPLAIN " + statement, parameters)
        else:
            cursor.execute("EXPLAIN QUERY PLAN " + statement, parameters)
        plans.extend(row[-1] for row in cursor.fetchall())

    await desk.comes_in()
    await desk.database.read(deliveries.first_due)
    delivery = await desk.claim(endpoint)
    assert delivery is not None
    await desk.record(delivery)
    scans = [p for p in plans if p.startswith("SCAN") or any(f"Seq Scan on {table}" in p for table in tables)]
    scans = [plan for plan in scans if "webhook_endpoints" not in plan]
    assert scans == []
    assert any("ix_webhook_deliveries_due" in plan for plan in plans)
    assert any("ix_webhook_deliveries_order" in plan for plan in plans)
    assert sum("ix_webhook_attempts_health" in plan for plan in plans) == 2
