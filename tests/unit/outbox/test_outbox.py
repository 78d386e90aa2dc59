"""The three verbs on a real database: order, one in flight per recipient, attempts, receipts, recovery."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from tests.harness.outbox import OutboxHarness, open_outbox
from tests.sentences import english

from kurir.messages.channel_reports import InDoubt, NotConnected, Outcome, Refused, Sent, StatusChanged, TryLater
from kurir.messages.content import Text
from kurir.outbox.doubt import CUT_OFF
from kurir.outbox.outbox import QueueFull
from kurir.outbox.tables import messages
from kurir.reasons import as_written
from kurir.reasons.messages import NOT_RECORDED


async def test_an_accepted_message_is_stored_and_its_number_is_notified(harness: OutboxHarness):
    accepted = await harness.outbox.accept([harness.draft(body="satu")])
    assert harness.number_due == [(harness.number.account_id, harness.number.id)]
    (claimed,) = await harness.claim()
    assert (claimed.id, claimed.content, claimed.attempt) == (accepted.ids[0], Text("satu"), 1)


async def test_to_one_recipient_messages_leave_one_at_a_time_in_acceptance_order(harness: OutboxHarness):
    ids = (await harness.outbox.accept([harness.draft(body=str(i)) for i in range(4)])).ids
    left = []
    for _ in ids:
        (claimed,) = await harness.claim()
        assert await harness.claim() == []
        left.append(claimed.id)
        await harness.outbox.record(claimed, Sent("x"))
    assert left == ids


async def test_different_recipients_leave_together_and_urgent_ones_first(harness: OutboxHarness):
    await harness.outbox.accept([harness.draft("628111", "later", priority=8)])
    await harness.outbox.accept([harness.draft("628222", "soon")])
    await harness.outbox.accept([harness.draft("628333", "now", priority=0)])
    assert [c.content for c in await harness.claim()] == [Text("now"), Text("soon"), Text("later")]


async def test_to_one_recipient_the_urgent_one_leaves_first_whatever_was_accepted_before(harness: OutboxHarness):
    for words, priority in (("broadcast", 8), ("reply", 5), ("code", 0), ("later reply", 5)):
        await harness.outbox.accept([harness.draft("628111", words, priority=priority)])
    left = []
    for n in range(4):
        (claimed,) = await harness.claim()
        left.append(claimed.content)
        await harness.outbox.record(claimed, Sent(f"w{n}"))
    assert left == [Text("code"), Text("reply"), Text("later reply"), Text("broadcast")]


async def test_an_urgent_one_does_not_wait_for_doubt_about_a_less_urgent_one(harness: OutboxHarness):
    await harness.database.write(lambda c: c.exec_driver_sql("UPDATE accounts SET doubt = 'resend'"))
    await harness.outbox.accept([harness.draft("628111", "broadcast", priority=8)])
    (claimed,) = await harness.claim()
    await harness.outbox.record(claimed, InDoubt(as_written("no answer")), 60.0)
    await harness.outbox.accept([harness.draft("628111", "next broadcast", priority=8)])
    await harness.outbox.accept([harness.draft("628111", "code", priority=0)])
    assert [one.content for one in await harness.claim()] == [Text("code")]


async def test_a_retry_holds_back_later_messages_to_the_same_recipient_only(harness: OutboxHarness):
    await harness.outbox.accept([harness.draft(body="1"), harness.draft(body="2"), harness.draft("628222", "other")])
    first, other = await harness.claim()
    await harness.outbox.record(first, TryLater("130429", as_written("slow down"), after=60))
    await harness.outbox.record(other, Sent("x"))
    assert await harness.claim() == []
    claims = await harness.outbox.claim(harness.number.account_id, harness.number.id, 1)
    assert claims.due_at == harness.time.now + 60
    harness.time.now += 60
    (again,) = await harness.claim()
    assert (again.content, again.attempt) == (Text("1"), 2)


async def test_tries_run_out(harness: OutboxHarness):
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    for _ in range(3):
        (claimed,) = await harness.claim()
        after = await harness.outbox.record(claimed, TryLater("131000", as_written("something went wrong"), after=1))
        harness.time.now += 1
    assert (after.state, after.error_code, after.attempts) == ("failed", "exhausted", 3)
    assert await harness.claim() == []
    assert await harness.state(message_id) == "failed"


async def test_a_number_that_is_not_connected_costs_no_attempt(harness: OutboxHarness):
    await harness.outbox.accept([harness.draft()])
    for _ in range(5):
        (claimed,) = await harness.claim()
        assert claimed.attempt == 1
        await harness.outbox.record(claimed, NotConnected(as_written("logged out")))


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Sent("id"), "sent"),
        (Refused("131026", as_written("not on WhatsApp")), "failed"),
        (InDoubt(as_written("no answer")), "unconfirmed"),
    ],
)
async def test_outcomes_settle_and_whoever_waits_is_reported(harness: OutboxHarness, outcome, state: str):
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    settled = asyncio.create_task(harness.outbox.wait_until_settled(harness.number.account_id, message_id, 30))
    (claimed,) = await harness.claim()
    await harness.outbox.record(claimed, outcome)
    assert (await settled).state == state
    assert harness.outbox.waiting() == 0


async def test_an_outcome_that_takes_too_long_reports_the_messages_state(harness: OutboxHarness):
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    assert (await harness.outbox.wait_until_settled(harness.number.account_id, message_id, 0.01)).state == "queued"
    with pytest.raises(KeyError):
        await harness.outbox.wait_until_settled(harness.number.account_id + 1, message_id, 0.01)


@pytest.mark.parametrize(
    "stale",
    [
        Refused("x", as_written("stale")),
        Sent("w1"),
        InDoubt(as_written("stale")),
        TryLater("2", as_written("stale"), after=0),
        NotConnected(as_written("stale")),
    ],
    ids=lambda stale: type(stale).__name__,
)
async def test_a_result_of_an_older_attempt_changes_nothing(harness: OutboxHarness, stale: Outcome):
    """A message in flight that was queued again would be sent twice."""
    await harness.outbox.accept([harness.draft()])
    (old,) = await harness.claim()
    await harness.outbox.record(old, TryLater("1", as_written("later"), after=0))
    (new,) = await harness.claim()
    after = await harness.outbox.record(old, stale)
    assert (after.state, after.attempts, after.remote_id) == ("sending", new.attempt, None)
    assert await harness.claim() == []


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Sent("w1"), "sent"),
        (InDoubt(as_written("no answer"), "w1"), "unconfirmed"),
        (Refused("x", as_written("no")), "failed"),
        (TryLater("1", as_written("later")), "failed"),
        (NotConnected(as_written("off")), "failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_when_an_outcome_cannot_be_recorded_what_is_known_of_it_stays(
    harness: OutboxHarness, outcome: Outcome, state: str
):
    """Doubt that became a failure would be sent again by whoever reads `failed`."""
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    (claimed,) = await harness.claim()
    await harness.outbox.quarantine(claimed, outcome, NOT_RECORDED(error="ValueError"))
    found = await harness.outbox.snapshot(harness.number.account_id, message_id)
    assert found is not None
    assert (found.state, found.remote_id) == (state, getattr(outcome, "remote_id", None))
    assert found.error_code == ("" if state == "sent" else "unprocessable")
    assert harness.outbox.waiting() == 0


async def receive(
    harness: OutboxHarness, status: str, remote_id: str = "w1", message_id: int | None = None, **more
) -> None:
    event = StatusChanged(
        harness.number.account_id, harness.number.id, remote_id, status, harness.time.now, message_id=message_id, **more
    )
    await harness.database.write(
        lambda c: harness.outbox.receipt(c, event, harness.time.now), after_commit=harness.outbox.receipt_committed
    )


async def test_receipts_in_any_order_end_at_the_highest(harness: OutboxHarness):
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    (claimed,) = await harness.claim()
    await harness.outbox.record(claimed, Sent("w1"))
    for status in ("read", "delivered", "sent", "failed", "read"):
        await receive(harness, status)
    assert await harness.state(message_id) == "read"


async def test_a_receipt_that_overtakes_the_answer_is_not_lost(harness: OutboxHarness):
    ids = (await harness.outbox.accept([harness.draft(), harness.draft("628222")])).ids
    by_engine_id, by_our_id = await harness.claim()
    await receive(harness, "delivered", "w1")  # the message is not known as w1 yet
    await receive(harness, "delivered", "w2", message_id=by_our_id.id)
    await harness.outbox.record(by_engine_id, Sent("w1"))
    after = await harness.outbox.record(by_our_id, Sent("w2"))
    assert [await harness.state(i) for i in ids] == ["delivered", "delivered"]
    assert after.remote_id == "w2"


async def test_a_receipt_of_another_number_or_account_changes_nothing(harness: OutboxHarness):
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    (claimed,) = await harness.claim()
    await harness.outbox.record(claimed, Sent("w1"))
    for account_id, number_id in ((harness.number.account_id, harness.other.id), (99, harness.number.id)):
        event = StatusChanged(account_id, number_id, "w1", "read", 1.0, message_id=message_id)
        await harness.database.write(
            lambda c, e=event: harness.outbox.receipt(c, e, harness.time.now),
            after_commit=harness.outbox.receipt_committed,
        )
    assert await harness.state(message_id) == "sent"


FORGED = '{"code":"restricted_until","parameters":{"until":1e300}}'
"""Whoever signs a callback chooses its words: they are shown, and never taken for a reason of ours."""


@pytest.mark.parametrize("words", ["undeliverable", FORGED, '{"code":"not_on_whatsapp"}'])
async def test_a_failed_receipt_ends_a_sent_message_with_its_reason(harness: OutboxHarness, words: str):
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    (claimed,) = await harness.claim()
    await harness.outbox.record(claimed, Sent("w1"))
    await receive(harness, "failed", code="131026", reason=words)
    found = await harness.outbox.snapshot(harness.number.account_id, message_id)
    assert found is not None
    assert (found.state, found.error_code, english(found.error_reason)) == ("failed", "131026", words)


async def test_old_messages_expire_in_the_queue_and_at_the_claim(harness: OutboxHarness):
    swept, claimed = (
        await harness.outbox.accept([harness.draft(lifetime=10), harness.draft("628222", lifetime=20)])
    ).ids
    harness.time.now += 10
    assert await harness.outbox.expire() == 1
    harness.time.now += 10
    settled = asyncio.create_task(harness.outbox.wait_until_settled(harness.number.account_id, claimed, 30))
    await asyncio.sleep(0)
    assert await harness.claim() == []
    assert (await settled).state == "expired"
    assert await harness.state(swept) == "expired"
    assert harness.outbox.waiting() == 0


async def test_after_a_crash_what_was_in_flight_is_found_and_waits_for_an_outcome(harness: OutboxHarness):
    in_flight_ids, waiting = (await harness.outbox.accept([harness.draft(body="1"), harness.draft(body="2")])).ids
    await harness.claim()
    reborn = open_outbox(harness.database, harness.time, [])
    await reborn.count_waiting()
    assert reborn.waiting() == 2
    assert (await reborn.claim(harness.number.account_id, harness.number.id, 10)).messages == []
    (left,) = await reborn.left_in_flight(harness.number.account_id, harness.number.id)
    assert (left.id, left.content, left.attempt) == (in_flight_ids, Text("1"), 1)
    assert await reborn.left_in_flight(harness.number.account_id, harness.other.id) == []
    await reborn.record(left, CUT_OFF)
    assert (await harness.state(in_flight_ids), await harness.state(waiting)) == ("unconfirmed", "queued")
    (claimed,) = (await reborn.claim(harness.number.account_id, harness.number.id, 10)).messages
    assert claimed.id == waiting
    assert reborn.waiting() == 1
    # a late receipt resolves the doubt
    await receive(harness, "delivered", "w9", message_id=in_flight_ids)
    assert await harness.state(in_flight_ids) == "delivered"


async def test_a_full_queue_refuses_all_or_nothing(harness: OutboxHarness):
    small = open_outbox(harness.database, harness.time, [], queue_limit=2)
    await small.accept([harness.draft()])
    with pytest.raises(QueueFull):
        await small.accept([harness.draft(), harness.draft()])
    count = await harness.database.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(messages)).scalar())
    assert count == 1


async def test_what_belongs_to_a_message_is_stored_with_it_or_not_at_all(harness: OutboxHarness):
    def fails(_connection, _ids):
        raise RuntimeError("no row for this message")

    with pytest.raises(RuntimeError):
        await harness.outbox.accept([harness.draft()], also=fails)
    assert await harness.claim() == []
    accepted = await harness.outbox.accept([harness.draft()], also=lambda _c, ids: ids[0] * 2)
    assert accepted.value == accepted.ids[0] * 2


async def test_a_sealed_content_is_unreadable_at_rest_and_gone_at_the_end(harness: OutboxHarness):
    await harness.outbox.accept([harness.draft(body="kode 123456", sealed=True)])

    async def stored() -> str:
        return await harness.database.read(lambda c: c.execute(sa.select(messages.c.content)).scalar_one())

    assert "123456" not in await stored()
    (claimed,) = await harness.claim()
    assert claimed.content == Text("kode 123456")
    await harness.outbox.record(claimed, Sent("w1"))
    assert await stored() == ""


async def test_the_database_refuses_a_second_message_in_flight(harness: OutboxHarness):
    await harness.outbox.accept([harness.draft(), harness.draft()])
    await harness.claim()
    with pytest.raises(sa.exc.IntegrityError):
        await harness.database.write(lambda c: c.execute(messages.update().values(state="sending")))


async def test_fifty_lanes_never_claim_one_message_twice(harness: OutboxHarness):
    await harness.outbox.accept([harness.draft(str(628000 + i)) for i in range(300)])
    taken = await asyncio.gather(*(harness.claim(10) for _ in range(50)))
    ids = [claimed.id for claims in taken for claimed in claims]
    assert len(ids) == len(set(ids)) == 300
