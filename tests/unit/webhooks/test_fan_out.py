"""Which deliveries the event log becomes: for whom, of which change, and never for another account."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa
from tests.harness.webhooks import WebhookHarness, text_of

from kurir.accounts import accounts
from kurir.events.append import append
from kurir.messages.channel_reports import ConnectionChanged, InDoubt, Refused, Sent, StatusChanged
from kurir.numbers import numbers
from kurir.numbers import status as number_status
from kurir.reasons import NOTHING, as_written, sentence
from kurir.reasons.numbers import RESTRICTED_UNTIL
from kurir.webhooks import endpoints, history
from kurir.webhooks.deliveries import ClaimedDelivery
from kurir.webhooks.retry_schedule import Answered


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
    assert [text_of(p) for p in await harness.claim_all(other_number)] == ["two"]


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
    assert [text_of(p) for p in mine] == ["ours"]
    assert [text_of(p) for p in yours] == ["theirs"]
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
