"""Doubt: the table of evidence and settings, and what becomes of unconfirmed messages in the database."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.unit.outbox.desk import Desk

from kurir.accounts.tables import accounts
from kurir.messages.reports import (
    Evidence,
    InDoubt,
    Left,
    NeverLeft,
    Outcome,
    Sent,
    StatusChanged,
    TryLater,
    Unknown,
)
from kurir.outbox import recovery
from kurir.outbox.doubt import explained, may_resend, resend_now, timeout
from kurir.outbox.rows import Claimed
from kurir.outbox.tables import attempts, messages

TIMEOUT = 20.0


@pytest.mark.parametrize(
    ("doubt", "evidence", "outcome"),
    [
        (InDoubt("cut"), NeverLeft(), TryLater("never_left", "cut")),
        (InDoubt("cut", "w1"), Left("w2"), Sent("w2")),
        (InDoubt("cut"), Unknown("w1"), InDoubt("cut", "w1")),
        (InDoubt("cut", "w1"), Unknown(), InDoubt("cut", "w1")),
        (InDoubt("cut"), Unknown(), InDoubt("cut")),
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
def test_the_setting_decides_when_the_patience_is_over(
    setting: str, origin: str, attempts: int, now: float, again: bool
):
    assert resend_now(setting, origin, attempts=attempts, max_attempts=8, now=now, expires_at=100.0) is again
    assert may_resend(setting, origin) or not again


def test_a_code_does_not_wait_longer_than_it_is_worth():
    assert timeout("api", 120.0) == 120.0
    assert timeout("otp", 120.0) == 5.0
    assert timeout("otp", 2.0) == 2.0


async def choose(desk: Desk, setting: str) -> None:
    await desk.database.write(lambda c: c.execute(accounts.update().values(doubt=setting)))


async def doubted(desk: Desk, remote_id: str | None = None, **draft) -> Claimed:
    await desk.outbox.accept([desk.draft(**draft)])
    (claimed,) = await desk.claim()
    after = await desk.outbox.record(claimed, InDoubt("no answer", remote_id), TIMEOUT)
    assert (after.state, after.remote_id) == ("unconfirmed", remote_id)
    return claimed


async def settle(desk: Desk, since: float | None = None) -> float | None:
    since = desk.time.now if since is None else since
    return await desk.outbox.settle_doubts(desk.number.account_id, desk.number.id, since=since, timeout=TIMEOUT)


async def receipt(desk: Desk, remote_id: str, status: str = "delivered", message_id: int | None = None) -> None:
    event = StatusChanged(
        desk.number.account_id, desk.number.id, remote_id, status, desk.time.now, message_id=message_id
    )
    await desk.database.write(
        lambda c: desk.outbox.receipt(c, event, desk.time.now), after_commit=desk.outbox.receipt_committed
    )


async def test_on_hold_a_doubt_stays_and_later_messages_go_on(desk: Desk):
    start = desk.time.now
    claimed = await doubted(desk)
    await desk.outbox.accept([desk.draft(body="next")])
    assert await settle(desk, start) is None
    desk.time.now += 10_000
    assert await settle(desk, start) is None
    assert await desk.state(claimed.id) == "unconfirmed"


async def test_with_resend_it_waits_for_a_receipt_keeps_the_order_and_goes_out_once_more(desk: Desk):
    await choose(desk, "resend")
    start = desk.time.now
    claimed = await doubted(desk, "w1", body="1")
    (later,) = (await desk.outbox.accept([desk.draft(body="2")])).ids
    (urgent,) = (await desk.outbox.accept([desk.draft(body="now", priority=0)])).ids
    assert await settle(desk, start) == start + TIMEOUT
    (taken,) = await desk.claim()
    assert taken.id == urgent, "what is more urgent does not wait for the doubt"
    await desk.outbox.record(taken, Sent("w2"))
    assert await desk.claim() == [], "what came later does"
    desk.time.now += TIMEOUT
    assert await settle(desk, start + 5) == start + 5 + TIMEOUT, "receipts could come only since then"
    desk.time.now += 5
    assert await settle(desk, start + 5) is None
    assert desk.outbox.waiting() == 2
    (again,) = await desk.claim()
    assert (again.id, again.attempt) == (claimed.id, 2)
    await desk.outbox.record(again, Sent("w3"))
    (last,) = await desk.claim()
    assert last.id == later
    rows = await desk.database.read(
        lambda c: (
            c.execute(sa.select(attempts.c.outcome).where(attempts.c.message_id == claimed.id).order_by(attempts.c.id))
            .scalars()
            .all()
        )
    )
    assert rows == ["in_doubt", "resend", "sent"]


async def test_a_receipt_in_time_settles_the_doubt_for_good(desk: Desk):
    await choose(desk, "resend")
    claimed = await doubted(desk, "w1")
    await receipt(desk, "w1")
    desk.time.now += TIMEOUT
    assert await settle(desk, 0.0) is None
    assert await desk.state(claimed.id) == "delivered"


async def test_a_receipt_that_comes_while_it_is_queued_again_spares_the_second_send(desk: Desk):
    await choose(desk, "resend")
    claimed = await doubted(desk)
    desk.time.now += TIMEOUT
    await settle(desk, 0.0)
    assert await desk.state(claimed.id) == "queued"
    await receipt(desk, "w1", "failed", claimed.id)
    assert await desk.state(claimed.id) == "queued", "a failed first try leaves the second one to be made"
    await receipt(desk, "w1", "sent", claimed.id)
    assert await desk.state(claimed.id) == "sent"
    assert await desk.claim() == []
    assert desk.outbox.waiting() == 0


async def test_the_setting_counts_as_it_is_when_the_patience_ends(desk: Desk):
    await choose(desk, "resend")
    claimed = await doubted(desk)
    await choose(desk, "hold")
    desk.time.now += TIMEOUT
    assert await settle(desk, 0.0) is None
    assert await desk.state(claimed.id) == "unconfirmed"
    assert await settle(desk, 0.0) is None


async def test_tries_run_out_in_doubt_too(desk: Desk):
    await choose(desk, "resend")
    claimed = await doubted(desk)
    for attempt in (2, 3):
        desk.time.now += TIMEOUT
        await settle(desk, 0.0)
        (again,) = await desk.claim()
        assert again.attempt == attempt
        await desk.outbox.record(again, InDoubt("no answer"), TIMEOUT)
    desk.time.now += TIMEOUT
    assert await settle(desk, 0.0) is None
    assert await desk.state(claimed.id) == "unconfirmed"
    assert desk.outbox.waiting() == 0


async def test_a_code_in_doubt_goes_out_again_while_it_lives_and_is_erased_after(desk: Desk):
    async def stored() -> str:
        return await desk.database.read(lambda c: c.execute(sa.select(messages.c.content)).scalar_one())

    claimed = await doubted(desk, origin="otp", sealed=True, lifetime=12.0, body="kode 123456")
    desk.time.now += 5
    assert await settle(desk, 0.0) is None
    (again,) = await desk.claim()
    assert (again.id, again.content) == (claimed.id, claimed.content)
    await desk.outbox.record(again, InDoubt("no answer"), TIMEOUT)
    assert await stored() != ""
    desk.time.now += 7
    assert await settle(desk, 0.0) is None
    assert await desk.state(claimed.id) == "unconfirmed"
    assert await stored() == ""


async def test_what_was_read_of_an_earlier_doubt_does_not_end_the_patience_with_the_next(desk: Desk):
    """Another gateway may settle it, send it and doubt again between a look at the doubts and what follows from it."""
    await choose(desk, "resend")
    claimed = await doubted(desk)
    account_id, number_id = desk.number.account_id, desk.number.id
    (stale,) = await desk.database.read(lambda c: recovery.doubts(c, account_id, number_id))
    desk.time.now += TIMEOUT
    await settle(desk, 0.0)
    (again,) = await desk.claim()
    await desk.outbox.record(again, InDoubt("no answer", "w2"), TIMEOUT)
    now = desk.time.now
    moved = await desk.database.write(lambda c: recovery.settle(c, account_id, stale, max_attempts=3, now=now))
    assert moved is False
    assert await desk.state(claimed.id) == "unconfirmed"
    assert await desk.claim() == []
    assert await settle(desk, 0.0) == now + TIMEOUT
