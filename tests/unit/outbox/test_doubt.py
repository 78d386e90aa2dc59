"""Doubt: the table of evidence and settings, and what becomes of unconfirmed messages in the database."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.harness.outbox import OutboxHarness

from kurir.accounts.tables import accounts
from kurir.messages.channel_reports import Evidence, InDoubt, NeverLeft, Outcome, Sent, StatusChanged, TryLater, Unknown
from kurir.outbox import recovery
from kurir.outbox.doubt import explained, may_resend, resend_now, timeout
from kurir.outbox.message_rows import Claimed
from kurir.outbox.tables import attempts, messages
from kurir.reasons import as_written

TIMEOUT = 20.0


@pytest.mark.parametrize(
    ("doubt", "evidence", "outcome"),
    [
        (InDoubt(as_written("cut")), NeverLeft(), TryLater("never_left", as_written("cut"))),
        (InDoubt(as_written("cut")), Unknown("w1"), InDoubt(as_written("cut"), "w1")),
        (InDoubt(as_written("cut"), "w1"), Unknown(), InDoubt(as_written("cut"), "w1")),
        (InDoubt(as_written("cut")), Unknown(), InDoubt(as_written("cut"))),
    ],
)
def test_evidence_explains_doubt(doubt: InDoubt, evidence: Evidence, outcome: Outcome):
    assert explained(doubt, evidence) == outcome


@pytest.mark.parametrize(
    ("setting", "origin", "attempts", "now", "again"),
    [
        ("hold", "api", 1, 0.0, False),
        ("hold", "broadcast", 1, 0.0, False),
        ("resend", "api", 1, 0.0, True),
        ("resend", "broadcast", 7, 99.0, True),
        ("resend", "api", 8, 0.0, False),
        ("resend", "api", 1, 100.0, False),
        ("hold", "otp", 1, 99.0, True),
        ("hold", "otp", 1, 100.0, False),
        ("resend", "otp", 8, 0.0, False),
    ],
)
def test_the_setting_decides_when_the_receipt_timeout_is_over(
    setting: str, origin: str, attempts: int, now: float, again: bool
):
    assert resend_now(setting, origin, attempts=attempts, max_attempts=8, now=now, expires_at=100.0) is again
    assert may_resend(setting, origin) or not again


def test_a_code_does_not_wait_longer_than_it_is_worth():
    assert timeout("api", 120.0) == 120.0
    assert timeout("otp", 120.0) == 5.0
    assert timeout("otp", 2.0) == 2.0


async def choose(harness: OutboxHarness, setting: str) -> None:
    await harness.database.write(lambda c: c.execute(accounts.update().values(doubt=setting)))


async def doubted(harness: OutboxHarness, remote_id: str | None = None, **draft) -> Claimed:
    await harness.outbox.accept([harness.draft(**draft)])
    (claimed,) = await harness.claim()
    after = await harness.outbox.record(claimed, InDoubt(as_written("no answer"), remote_id), TIMEOUT)
    assert (after.state, after.remote_id) == ("unconfirmed", remote_id)
    return claimed


async def settle(harness: OutboxHarness, since: float | None = None) -> float | None:
    since = harness.time.now if since is None else since
    return await harness.outbox.settle_doubts(
        harness.number.account_id, harness.number.id, since=since, timeout=TIMEOUT
    )


async def receipt(
    harness: OutboxHarness, remote_id: str, status: str = "delivered", message_id: int | None = None
) -> None:
    event = StatusChanged(
        harness.number.account_id, harness.number.id, remote_id, status, harness.time.now, message_id=message_id
    )
    await harness.database.write(
        lambda c: harness.outbox.receipt(c, event, harness.time.now), after_commit=harness.outbox.receipt_committed
    )


async def test_on_hold_a_doubt_stays_and_later_messages_go_on(harness: OutboxHarness):
    start = harness.time.now
    claimed = await doubted(harness)
    await harness.outbox.accept([harness.draft(body="next")])
    assert await settle(harness, start) is None
    harness.time.now += 10_000
    assert await settle(harness, start) is None
    assert await harness.state(claimed.id) == "unconfirmed"


async def test_with_resend_it_waits_for_a_receipt_keeps_the_order_and_goes_out_once_more(harness: OutboxHarness):
    await choose(harness, "resend")
    start = harness.time.now
    claimed = await doubted(harness, "w1", body="1")
    (later,) = (await harness.outbox.accept([harness.draft(body="2")])).ids
    (urgent,) = (await harness.outbox.accept([harness.draft(body="now", priority=0)])).ids
    assert await settle(harness, start) == start + TIMEOUT
    (taken,) = await harness.claim()
    assert taken.id == urgent, "what is more urgent does not wait for the doubt"
    await harness.outbox.record(taken, Sent("w2"))
    assert await harness.claim() == [], "what came later does"
    harness.time.now += TIMEOUT
    assert await settle(harness, start + 5) == start + 5 + TIMEOUT, "receipts could come only since then"
    harness.time.now += 5
    assert await settle(harness, start + 5) is None
    assert harness.outbox.waiting() == 2
    (again,) = await harness.claim()
    assert (again.id, again.attempt) == (claimed.id, 2)
    await harness.outbox.record(again, Sent("w3"))
    (last,) = await harness.claim()
    assert last.id == later
    rows = await harness.database.read(
        lambda c: (
            c.execute(sa.select(attempts.c.outcome).where(attempts.c.message_id == claimed.id).order_by(attempts.c.id))
            .scalars()
            .all()
        )
    )
    assert rows == ["in_doubt", "resend", "sent"]


async def test_a_receipt_in_time_settles_the_doubt_for_good(harness: OutboxHarness):
    await choose(harness, "resend")
    claimed = await doubted(harness, "w1")
    await receipt(harness, "w1")
    harness.time.now += TIMEOUT
    assert await settle(harness, 0.0) is None
    assert await harness.state(claimed.id) == "delivered"


async def test_a_receipt_that_comes_while_it_is_queued_again_spares_the_second_send(harness: OutboxHarness):
    await choose(harness, "resend")
    claimed = await doubted(harness)
    harness.time.now += TIMEOUT
    await settle(harness, 0.0)
    assert await harness.state(claimed.id) == "queued"
    await receipt(harness, "w1", "failed", claimed.id)
    assert await harness.state(claimed.id) == "queued", "a failed first try leaves the second one to be made"
    await receipt(harness, "w1", "sent", claimed.id)
    assert await harness.state(claimed.id) == "sent"
    assert await harness.claim() == []
    assert harness.outbox.waiting() == 0


async def test_the_setting_counts_as_it_is_when_the_receipt_timeout_ends(harness: OutboxHarness):
    await choose(harness, "resend")
    claimed = await doubted(harness)
    await choose(harness, "hold")
    harness.time.now += TIMEOUT
    assert await settle(harness, 0.0) is None
    assert await harness.state(claimed.id) == "unconfirmed"
    assert await settle(harness, 0.0) is None


async def test_tries_run_out_in_doubt_too(harness: OutboxHarness):
    await choose(harness, "resend")
    claimed = await doubted(harness)
    for attempt in (2, 3):
        harness.time.now += TIMEOUT
        await settle(harness, 0.0)
        (again,) = await harness.claim()
        assert again.attempt == attempt
        await harness.outbox.record(again, InDoubt(as_written("no answer")), TIMEOUT)
    harness.time.now += TIMEOUT
    assert await settle(harness, 0.0) is None
    assert await harness.state(claimed.id) == "unconfirmed"
    assert harness.outbox.waiting() == 0


async def test_a_code_in_doubt_goes_out_again_while_it_lives_and_is_erased_after(harness: OutboxHarness):
    async def stored() -> str:
        return await harness.database.read(lambda c: c.execute(sa.select(messages.c.content)).scalar_one())

    claimed = await doubted(harness, origin="otp", sealed=True, lifetime=12.0, body="kode 123456")
    harness.time.now += 5
    assert await settle(harness, 0.0) is None
    (again,) = await harness.claim()
    assert (again.id, again.content) == (claimed.id, claimed.content)
    await harness.outbox.record(again, InDoubt(as_written("no answer")), TIMEOUT)
    assert await stored() != ""
    harness.time.now += 7
    assert await settle(harness, 0.0) is None
    assert await harness.state(claimed.id) == "unconfirmed"
    assert await stored() == ""


async def test_what_was_read_of_an_earlier_doubt_does_not_end_the_receipt_timeout_with_the_next(harness: OutboxHarness):
    """Another gateway may settle it, send it and doubt again between a look at the doubts and what follows from it."""
    await choose(harness, "resend")
    claimed = await doubted(harness)
    account_id, number_id = harness.number.account_id, harness.number.id
    (stale,) = await harness.database.read(lambda c: recovery.doubts(c, account_id, number_id))
    harness.time.now += TIMEOUT
    await settle(harness, 0.0)
    (again,) = await harness.claim()
    await harness.outbox.record(again, InDoubt(as_written("no answer"), "w2"), TIMEOUT)
    now = harness.time.now
    moved = await harness.database.write(lambda c: recovery.settle(c, account_id, stale, max_attempts=3, now=now))
    assert moved is False
    assert await harness.state(claimed.id) == "unconfirmed"
    assert await harness.claim() == []
    assert await settle(harness, 0.0) == now + TIMEOUT
