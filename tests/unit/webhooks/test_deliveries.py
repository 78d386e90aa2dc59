"""What must be told: written with the change, in order per chat, counted before the try, never another account's."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa
from tests.webhook_harness import SEALING, WebhookHarness

from kurir.accounts import accounts
from kurir.events.append import append
from kurir.kit.url_rules import Allowed, UrlRefused
from kurir.messages.reports import ConnectionChanged, InDoubt, Refused, Sent, StatusChanged
from kurir.numbers import numbers
from kurir.numbers import status as number_status
from kurir.reasons import NOTHING, Reason, as_written, read, sentence
from kurir.reasons.numbers import RESTRICTED_UNTIL
from kurir.reasons.webhooks import RECEIVER_GONE
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


async def test_what_happened_before_an_endpoint_was_added_or_while_it_was_off_never_comes(
    harness: WebhookHarness,
) -> None:
    await harness.comes_in(text="before")
    await harness.harness.outbox.accept([harness.harness.draft()])
    (claimed,) = await harness.harness.claim()
    await harness.harness.outbox.record(claimed, Sent("3EB0"))
    assert await harness.rows() == (3, 0, 0)  # one event each, read by others
    endpoint, _ = await harness.endpoint()
    await harness.comes_in(text="first")
    for change in (
        lambda c: endpoints.disable(c, endpoint.account_id, endpoint.id, as_written("off")),
        lambda c: endpoints.enable(c, endpoint.account_id, endpoint.id, harness.time()),
    ):
        assert (await harness.states(endpoint)).total() == 1
        await harness.database.write(change)
        await harness.comes_in(text="then")
    assert [json.loads(d.body)["data"]["message_body"] for d in await delivered(harness, endpoint)] == ["first", "then"]


async def delivered(harness: WebhookHarness, endpoint: endpoints.Endpoint) -> list[ClaimedDelivery]:
    """What an endpoint gets, each delivered before the next."""
    found = []
    while delivery := await harness.claim(endpoint):
        found.append(delivery)
        await harness.record(delivery)
    return found


async def test_a_message_that_is_stored_twice_is_published_once(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    remote_id = await harness.comes_in(text="Halo")
    delivery = await harness.claim(endpoint)
    assert delivery is not None
    data = json.loads(delivery.body)["data"]
    assert (data["message_id"], data["message_body"], data["chat_id"]) == (remote_id, "Halo", "628111@c.us")
    assert delivery.number_key == harness.harness.number.key
    assert delivery.event_key.startswith("evt_")


async def test_a_change_that_is_undone_publishes_nothing(harness: WebhookHarness) -> None:
    await harness.endpoint()

    def work(connection: sa.Connection) -> None:
        append(
            connection,
            harness.harness.number.account_id,
            harness.harness.number.id,
            "incoming_chat",
            "x",
            body=_unused,
            now=1.0,
        )
        raise RuntimeError("undone")

    with pytest.raises(RuntimeError, match="undone"):
        await harness.database.write(work)
    assert await harness.rows() == (0, 0, 0)


def _unused():
    from kurir.events.bodies import Test

    return Test(message="", timestamp=0)


async def test_filters_by_event_and_number(harness: WebhookHarness) -> None:
    everything, _ = await harness.endpoint(events=["incoming_chat", "message_status", "device_status"])
    other_number, _ = await harness.endpoint(number_id=harness.harness.other.id)
    await harness.comes_in(number=harness.harness.number, text="one")
    await harness.comes_in(number=harness.harness.other, text="two")
    number = harness.harness.number
    await harness.inbox.take(
        [(ConnectionChanged(number.account_id, number.id, "connected", NOTHING, harness.time()), "")]
    )
    # the same state again is no news
    await harness.inbox.take(
        [(ConnectionChanged(number.account_id, number.id, "connected", NOTHING, harness.time()), "")]
    )
    assert sorted(p.event_type for p in await harness.claim_all(everything)) == [
        "device_status",
        "incoming_chat",
        "incoming_chat",
    ]
    assert [text(p) for p in await harness.claim_all(other_number)] == ["two"]


async def test_a_restriction_is_reported_when_it_begins_and_when_it_ends_and_not_between(
    harness: WebhookHarness,
) -> None:
    endpoint, _ = await harness.endpoint(events=["device_status"])
    number = harness.harness.number
    for until in (1_800_003_600.0, 1_800_007_200.0, None, None):
        restriction = numbers.Restriction(until, 3600.0) if until is not None else None
        await harness.database.write(
            lambda c, r=restriction: number_status.restrict(c, number.account_id, number.id, r, harness.time())
        )
    bodies = []
    while delivery := await harness.claim(endpoint):
        bodies.append(json.loads(delivery.body)["data"])
        await harness.record(delivery)
    assert [(body["state"], body["reason"]) for body in bodies] == [
        ("restricted", sentence(RESTRICTED_UNTIL(until=1_800_003_600.0), "id")),
        (number.state, ""),
    ]
    assert "sampai 15 Jan 2027 09.00 UTC" in bodies[0]["reason"]
    assert [body["reason_code"] for body in bodies] == ["restricted_until", ""]


async def test_a_sent_message_is_reported_with_every_state_and_as_the_devices_own(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint(events=["incoming_chat", "message_status"])
    await harness.harness.outbox.accept([harness.harness.draft(body="Pesanan siap")])
    (claimed,) = await harness.harness.claim()
    await harness.harness.outbox.record(claimed, Sent("3EB0FF"))
    number = harness.harness.number
    for status in ("delivered", "delivered", "read", "delivered"):
        event = StatusChanged(number.account_id, number.id, "3EB0FF", status, harness.time())
        await harness.inbox.take([(event, "")])
    reported = []
    while delivery := await harness.claim(endpoint):
        reported.append(json.loads(delivery.body))
        await harness.record(delivery)
    assert [t["type"] for t in reported] == ["incoming_chat"] + ["message_status"] * 3
    assert [t["data"]["status"] for t in reported[1:]] == ["sent", "delivered", "read"]
    own = reported[0]["data"]
    assert (own["is_from_me"], own["message_body"], own["message_id"]) == (True, "Pesanan siap", "3EB0FF")
    assert {t["data"]["remote_id"] for t in reported[1:]} == {"3EB0FF"}


async def test_a_secret_message_keeps_its_secret(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint(events=["incoming_chat", "message_status"])
    await harness.harness.outbox.accept([harness.harness.draft(body="Kode Anda 918273", sealed=True)])
    (claimed,) = await harness.harness.claim()
    await harness.harness.outbox.record(claimed, Sent("3EB0FF"))
    deliveries_ = []
    while delivery := await harness.claim(endpoint):
        deliveries_.append(delivery)
        await harness.record(delivery)
    assert len(deliveries_) == 2
    assert not any("918273" in delivery.body for delivery in deliveries_)


@pytest.mark.parametrize("how", ["refused", "expired", "expired while claimed", "canceled", "doubt"])
async def test_other_ends_are_delivered(harness: WebhookHarness, how: str) -> None:
    endpoint, _ = await harness.endpoint(events=["message_status"])
    accepted = await harness.harness.outbox.accept([harness.harness.draft(lifetime=60.0)])
    match how:
        case "refused":
            (claimed,) = await harness.harness.claim()
            await harness.harness.outbox.record(claimed, Refused("131026", as_written("not on WhatsApp")))
            wanted = ("failed", "131026")
        case "expired":
            harness.time.now += 61
            assert await harness.harness.outbox.expire() == 1
            wanted = ("expired", "expired")
        case "expired while claimed":
            harness.time.now += 61
            assert await harness.harness.claim() == []
            wanted = ("expired", "expired")
        case "canceled":
            (message_id,) = accepted.ids
            await harness.harness.outbox.cancel(endpoint.account_id, message_id)
            wanted = ("canceled", "")
        case _:
            (claimed,) = await harness.harness.claim()
            await harness.harness.outbox.record(claimed, InDoubt(as_written("no answer")))
            wanted = ("unconfirmed", "in_doubt")
    delivery = await harness.claim(endpoint)
    assert delivery is not None
    data = json.loads(delivery.body)["data"]
    assert (data["status"], data["error_code"]) == wanted
    assert await harness.claim(endpoint) is None


async def test_no_account_learns_of_another(harness: WebhookHarness) -> None:
    def stranger(connection: sa.Connection) -> numbers.Number:
        account = accounts.create(connection, name="b", email="b@example.com")
        return numbers.add_linked_device(connection, account.id)

    theirs = await harness.database.write(stranger)
    ours, _ = await harness.endpoint()
    foreign, _ = await harness.endpoint(account_id=theirs.account_id)
    await harness.comes_in(text="ours")
    await harness.comes_in(text="theirs", number=theirs)
    mine, yours = await harness.claim_all(ours), await harness.claim_all(foreign)
    assert [text(p) for p in mine] == ["ours"]
    assert [text(p) for p in yours] == ["theirs"]
    assert {p.number_key for p in yours} == {theirs.key}

    our_id, their_id = harness.harness.number.account_id, theirs.account_id
    for delivery in mine:
        await harness.record(delivery, Answered(410))

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
    assert await harness.database.write(questions) == [
        None, [foreign.key], 0, 0, foreign_events, {foreign.id: {"sending": 1}},
    ]  # fmt: skip
    assert our_id != their_id


async def test_endpoints_cost_a_send_and_a_receipt_nothing(harness: WebhookHarness) -> None:
    """Whoever moves a message appends what happened, and asks nothing about who wants to know."""

    async def counted(remote_id: str) -> int:
        await harness.harness.outbox.accept([harness.harness.draft()])
        (claimed,) = await harness.harness.claim()
        found: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
            found.append(statement)

        sa.event.listen(harness.database.engine, "before_cursor_execute", note)
        await harness.harness.outbox.record(claimed, Sent(remote_id))
        number = harness.harness.number
        event = StatusChanged(number.account_id, number.id, remote_id, "delivered", harness.time())
        await harness.inbox.take([(event, "")])
        sa.event.remove(harness.database.engine, "before_cursor_execute", note)
        assert not any("webhook" in statement for statement in found)
        assert sum(statement.startswith("INSERT INTO events") for statement in found) == 2  # one a transaction
        return len(found)

    alone = await counted("3EB001")
    for _ in range(3):
        await harness.endpoint(events=["incoming_chat", "message_status"])
    assert await counted("3EB002") == alone
    assert (await harness.states()).total() == 3 * 3


# -- order -------------------------------------------------------------------------------------------------------------


async def test_a_chats_events_are_delivered_in_order_and_chats_side_by_side(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    for chat in ("628111", "628222"):
        for n in range(3):
            await harness.comes_in(chat, f"{chat}-{n}")
    for n in range(3):
        deliveries_ = await harness.claim_all(endpoint)
        assert sorted(text(p) for p in deliveries_) == [f"628111-{n}", f"628222-{n}"]
        for delivery in deliveries_:
            await harness.record(delivery)
    assert await harness.states() == {"delivered": 6}


async def test_a_chat_waits_for_its_failing_event_while_the_receiver_is_down(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    await harness.comes_in(text="first")
    await harness.comes_in(text="second")
    for delay in DELAYS:
        delivery = await harness.claim(endpoint)
        assert text(delivery) == "first"
        assert delivery is not None
        await harness.record(delivery, Unanswered(as_written("down")))
        assert await harness.claim(endpoint) is None
        harness.time.now += delay + 1
    delivery = await harness.claim(endpoint)
    assert delivery is not None
    assert delivery.attempt == MOST_ATTEMPTS
    await harness.record(delivery, Unanswered(as_written("down")))
    assert text(await harness.claim(endpoint)) == "second"
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
    others = {text(p): p for p in await harness.claim_all(endpoint)}
    assert set(others) == {"poison", "another chat"}
    await harness.record(others["another chat"])
    await harness.record(others["poison"], Answered(500))
    after = await harness.claim(endpoint)
    assert text(after) == "next"
    assert after is not None
    await harness.record(after)
    await harness.comes_in("628111", "later")
    later = await harness.claim(endpoint)
    assert text(later) == "later"
    assert later is not None
    await harness.record(later)
    harness.time.now += DELAYS[2] * 1.2
    assert text(await harness.claim(endpoint)) == "poison"


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
    assert sorted(text(p) for p in due) == [f"waits {n}" for n in range(FAILING)]
    assert [text(p) for p in await harness.claim_all(elsewhere)] == ["another chat"]
    # it is not back once more: nothing failed since
    await harness.record(due[0], Answered(503, "3600"))
    harness.time.now += 1
    await harness.record(in_flight_ids)
    assert await harness.claim(endpoint) is None


# -- tries -------------------------------------------------------------------------------------------------------------


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
    assert text(again) == "0"
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


async def test_gone_disables_and_ends_what_waits(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    await harness.comes_in("628111")
    await harness.comes_in("628111")
    await harness.comes_in("628222")
    delivery = await harness.claim(endpoint)
    assert delivery is not None
    assert await harness.record(delivery, Answered(410)) == RECEIVER_GONE()
    assert await harness.states() == {"failed": 3}
    await harness.comes_in("628333")
    assert await harness.claim(endpoint) is None
    assert (await harness.rows())[1] == 3

    account_id = harness.harness.number.account_id
    found = await harness.database.read(lambda c: endpoints.by_key(c, account_id, endpoint.key))
    assert found is not None
    assert (found.state, read(found.state_reason)) == ("disabled", RECEIVER_GONE())


async def test_days_of_nothing_but_failures_disable_and_one_success_does_not(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    await harness.comes_in()
    delivery = await harness.claim(endpoint)
    assert delivery is not None
    assert not await harness.record(delivery)

    async def fail() -> Reason:
        await harness.comes_in(f"6281{harness.time.now:.0f}")
        delivery = await harness.claim(endpoint)
        assert delivery is not None
        return await harness.record(delivery, Answered(500))

    harness.time.now += DAY
    assert not await fail()
    harness.time.now += DEAD_AFTER - DAY
    await harness.comes_in("628999")
    good = [p for p in await harness.claim_all(endpoint) if p.chat == "628999"]
    assert not await harness.record(good[0])
    harness.time.now += DAY
    assert not await fail()
    harness.time.now += DEAD_AFTER - 1
    assert not await fail()
    harness.time.now += 1
    assert "5 days" in sentence(await fail(), "en")
    # enabled again, it has another chance
    await harness.database.write(lambda c: endpoints.enable(c, endpoint.account_id, endpoint.id, harness.time()))
    assert not await fail()


# -- by hand -----------------------------------------------------------------------------------------------------------


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
        reported.append((text(again), again.event_key))
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
    assert sorted(text(p) for p in await harness.claim_all(endpoint)) == ["1", "fine"]
    assert await harness.database.read(deliveries.stranded) == []


async def test_a_removed_endpoint_is_forgotten_with_its_secret(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    await harness.comes_in()
    await harness.fan_out()

    def work(connection: sa.Connection) -> None:
        endpoints.remove(connection, endpoint.account_id, endpoint.id, harness.time())
        deliveries.end_open(connection, endpoint.id, "canceled", harness.time())

    await harness.database.write(work)
    await harness.comes_in()
    assert await harness.states() == {"canceled": 1}
    assert await harness.claim(endpoint) is None
    row = await harness.database.read(lambda c: c.execute(sa.select(webhook_endpoints)).one())
    assert row.secret_sealed == row.old_secret_sealed == ""


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
    assert text(await harness.claim(both)) == "told to one"


# -- endpoints ---------------------------------------------------------------------------------------------------------


async def test_secrets_are_sealed_and_two_live_while_rotating(harness: WebhookHarness) -> None:
    endpoint, first = await harness.endpoint()
    row = await harness.database.read(lambda c: c.execute(sa.select(webhook_endpoints)).one())
    assert first not in str(row)
    second = await harness.database.write(lambda c: endpoints.rotate(c, SEALING, endpoint, harness.time()))

    async def live() -> list[str]:
        return await harness.database.read(
            lambda c: endpoints.secrets(c, SEALING, endpoint.account_id, endpoint.id, harness.time())
        )

    assert await live() == [second, first]
    harness.time.now += endpoints.OVERLAP
    assert await live() == [second]
    third = await harness.database.write(lambda c: endpoints.rotate(c, SEALING, endpoint, harness.time()))
    assert await live() == [third, second]


@pytest.mark.parametrize("url", ["http://127.0.0.1/x", "http://10.0.0.8/", "ftp://example.com/", "x", "http://a@b.c/"])
async def test_addresses_that_are_never_posted_to(harness: WebhookHarness, url: str) -> None:
    with pytest.raises(UrlRefused):
        await harness.database.write(
            lambda c: endpoints.add(c, SEALING, harness.harness.number.account_id, url, allowed=Allowed(), now=1.0)
        )
    assert await harness.database.read(lambda c: endpoints.of_account(c, harness.harness.number.account_id)) == []


@pytest.mark.parametrize("events", [["incoming_chat", "nonsense"], []])
async def test_only_known_events(harness: WebhookHarness, events: list[str]) -> None:
    with pytest.raises(EndpointError, match="expected") as refusal:
        await harness.endpoint(events=events)
    assert refusal.value.field == "event"


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
