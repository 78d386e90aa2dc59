"""The text of a one-time password is erased whichever way its message goes out of the queue; other texts stay."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import sqlalchemy as sa
from tests.harness.outbox import OutboxHarness

from kurir.messages.channel_reports import InDoubt, NotConnected, Outcome, Refused, Sent, StatusChanged, TryLater
from kurir.outbox import hold_after_restore
from kurir.outbox.message_rows import Claimed
from kurir.outbox.operator_actions import NotPossible
from kurir.outbox.tables import messages
from kurir.reasons import as_written

LIFETIME = 60.0
Way = Callable[[OutboxHarness, int], Awaitable[None]]


async def tried(harness: OutboxHarness, outcome: Outcome) -> Claimed:
    [claimed] = await harness.claim(1)
    await harness.outbox.record(claimed, outcome, timeout=20.0)
    return claimed


async def receipt(harness: OutboxHarness, message_id: int, status: str, *, by_id: bool = True) -> None:
    event = StatusChanged(
        harness.number.account_id,
        harness.number.id,
        "remote",
        status,  # type: ignore[arg-type]
        harness.time.now,
        message_id=message_id if by_id else None,
    )
    await harness.database.write(
        lambda c: harness.outbox.receipt(c, event, harness.time.now), after_commit=harness.outbox.receipt_committed
    )


async def sent(harness: OutboxHarness, _: int) -> None:
    await tried(harness, Sent("remote"))


async def failed(harness: OutboxHarness, _: int) -> None:
    await tried(harness, Refused("not_on_whatsapp", as_written("no such person")))


async def exhausted(harness: OutboxHarness, _: int) -> None:
    for _try in range(3):
        await tried(harness, TryLater("busy", as_written("later"), after=0.0))


async def too_late_for_another_try(harness: OutboxHarness, _: int) -> None:
    await tried(harness, TryLater("busy", as_written("later"), after=LIFETIME + 1))


async def not_connected_until_the_end(harness: OutboxHarness, _: int) -> None:
    [claimed] = await harness.claim(1)
    harness.time.now += LIFETIME
    await harness.outbox.record(claimed, NotConnected(as_written("away")))


async def expired_at_the_claim(harness: OutboxHarness, _: int) -> None:
    harness.time.now += LIFETIME
    assert await harness.claim(1) == []


async def expired_by_the_sweep(harness: OutboxHarness, _: int) -> None:
    harness.time.now += LIFETIME
    assert await harness.outbox.expire() >= 1


async def receipt_before_the_answer(harness: OutboxHarness, message_id: int) -> None:
    await harness.claim(1)
    await receipt(harness, message_id, "delivered")


async def receipt_of_a_failure_before_the_answer(harness: OutboxHarness, message_id: int) -> None:
    await harness.claim(1)
    await receipt(harness, message_id, "failed")


async def receipt_while_queued_again(harness: OutboxHarness, message_id: int) -> None:
    await tried(harness, TryLater("busy", as_written("later"), after=30.0))
    await receipt(harness, message_id, "sent")


async def receipt_after_doubt(harness: OutboxHarness, message_id: int) -> None:
    await tried(harness, InDoubt(as_written("cut off"), "remote"))
    await receipt(harness, message_id, "delivered", by_id=False)


async def canceled(harness: OutboxHarness, message_id: int) -> None:
    await harness.outbox.cancel(harness.number.account_id, message_id)


async def canceled_in_doubt(harness: OutboxHarness, message_id: int) -> None:
    await tried(harness, InDoubt(as_written("cut off")))
    await harness.outbox.cancel(harness.number.account_id, message_id)


async def doubt_over_and_held(harness: OutboxHarness, _: int) -> None:
    await tried(harness, InDoubt(as_written("cut off")))
    since, harness.time.now = harness.time.now, harness.time.now + LIFETIME
    await harness.outbox.settle_doubts(harness.number.account_id, harness.number.id, since=since, timeout=20.0)


async def doubt_that_no_lane_settles(harness: OutboxHarness, _: int) -> None:
    """The device never comes back, or its number was removed."""
    await tried(harness, InDoubt(as_written("cut off")))
    harness.time.now += LIFETIME
    await harness.outbox.expire()


async def success_heard_of_after_doubt(harness: OutboxHarness, _: int) -> None:
    claimed = await tried(harness, InDoubt(as_written("cut off")))
    await harness.outbox.record(claimed, Sent("remote"))


async def put_back_from_a_backup(harness: OutboxHarness, _: int) -> None:
    await harness.database.write(lambda c: hold_after_restore.hold(c, harness.time.now))


async def put_back_while_in_doubt(harness: OutboxHarness, _: int) -> None:
    await tried(harness, InDoubt(as_written("cut off")))
    await harness.database.write(lambda c: hold_after_restore.hold(c, harness.time.now))


WAYS: list[Way] = [
    sent,
    failed,
    exhausted,
    too_late_for_another_try,
    not_connected_until_the_end,
    expired_at_the_claim,
    expired_by_the_sweep,
    receipt_before_the_answer,
    receipt_of_a_failure_before_the_answer,
    receipt_while_queued_again,
    receipt_after_doubt,
    canceled,
    canceled_in_doubt,
    doubt_over_and_held,
    doubt_that_no_lane_settles,
    success_heard_of_after_doubt,
    put_back_from_a_backup,
    put_back_while_in_doubt,
]


async def content(harness: OutboxHarness, message_id: int) -> str:
    found = await harness.database.read(
        lambda c: c.scalar(sa.select(messages.c.content).where(messages.c.id == message_id))
    )
    assert found is not None
    return found


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_the_text_of_a_code_is_gone_and_cannot_be_replayed(harness: OutboxHarness, way: Way) -> None:
    draft = harness.draft(body="kode 123456", sealed=True, origin="otp", lifetime=LIFETIME)
    [message_id] = (await harness.outbox.accept([draft])).ids
    assert await content(harness, message_id) != ""
    await way(harness, message_id)
    assert await content(harness, message_id) == ""
    with pytest.raises(NotPossible):
        await harness.outbox.replay(harness.number.account_id, message_id)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_any_other_text_stays(harness: OutboxHarness, way: Way) -> None:
    draft = harness.draft(body="halo", lifetime=LIFETIME)
    [message_id] = (await harness.outbox.accept([draft])).ids
    await way(harness, message_id)
    assert "halo" in await content(harness, message_id)


async def test_the_text_stays_while_the_code_may_go_out_once_more(harness: OutboxHarness) -> None:
    draft = harness.draft(body="kode 123456", sealed=True, origin="otp", lifetime=LIFETIME)
    [message_id] = (await harness.outbox.accept([draft])).ids
    await tried(harness, InDoubt(as_written("cut off")))
    await harness.outbox.expire()
    assert await content(harness, message_id) != ""
    since, harness.time.now = harness.time.now, harness.time.now + 30
    await harness.outbox.settle_doubts(harness.number.account_id, harness.number.id, since=since, timeout=20.0)
    [claimed] = await harness.claim(1)
    assert "123456" in claimed.content.body  # type: ignore[union-attr]


async def test_the_text_stays_while_a_try_follows_the_one_that_is_heard_to_have_failed(harness: OutboxHarness) -> None:
    draft = harness.draft(body="kode 123456", sealed=True, origin="otp", lifetime=LIFETIME)
    [message_id] = (await harness.outbox.accept([draft])).ids
    await tried(harness, TryLater("busy", as_written("later"), after=30.0))
    await receipt(harness, message_id, "failed")
    assert await harness.state(message_id) == "queued"
    harness.time.now += 30
    [claimed] = await harness.claim(1)
    assert "123456" in claimed.content.body  # type: ignore[union-attr]
