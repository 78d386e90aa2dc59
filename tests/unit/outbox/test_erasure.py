"""The text of a one-time password is erased whichever way its message goes out of the queue; other texts stay."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import sqlalchemy as sa
from tests.unit.outbox.desk import Desk

from kurir.messages.reports import InDoubt, NotConnected, Outcome, Refused, Sent, StatusChanged, TryLater
from kurir.outbox import hold_after_restore
from kurir.outbox.operator_actions import NotPossible
from kurir.outbox.rows import Claimed
from kurir.outbox.tables import messages

LIFETIME = 60.0
Way = Callable[[Desk, int], Awaitable[None]]


async def tried(desk: Desk, outcome: Outcome) -> Claimed:
    [claimed] = await desk.claim(1)
    await desk.outbox.record(claimed, outcome, timeout=20.0)
    return claimed


async def receipt(desk: Desk, message_id: int, status: str, *, by_id: bool = True) -> None:
    event = StatusChanged(
        desk.number.account_id,
        desk.number.id,
        "remote",
        status,  # type: ignore[arg-type]
        desk.time.now,
        message_id=message_id if by_id else None,
    )
    await desk.database.write(
        lambda c: desk.outbox.receipt(c, event, desk.time.now), after_commit=desk.outbox.receipt_committed
    )


async def sent(desk: Desk, _: int) -> None:
    await tried(desk, Sent("remote"))


async def failed(desk: Desk, _: int) -> None:
    await tried(desk, Refused("not_on_whatsapp", "no such person"))


async def exhausted(desk: Desk, _: int) -> None:
    for _try in range(3):
        await tried(desk, TryLater("busy", "later", after=0.0))


async def too_late_for_another_try(desk: Desk, _: int) -> None:
    await tried(desk, TryLater("busy", "later", after=LIFETIME + 1))


async def not_connected_until_the_end(desk: Desk, _: int) -> None:
    [claimed] = await desk.claim(1)
    desk.time.now += LIFETIME
    await desk.outbox.record(claimed, NotConnected("away"))


async def expired_at_the_claim(desk: Desk, _: int) -> None:
    desk.time.now += LIFETIME
    assert await desk.claim(1) == []


async def expired_by_the_sweep(desk: Desk, _: int) -> None:
    desk.time.now += LIFETIME
    assert await desk.outbox.expire() >= 1


async def receipt_before_the_answer(desk: Desk, message_id: int) -> None:
    await desk.claim(1)
    await receipt(desk, message_id, "delivered")


async def receipt_of_a_failure_before_the_answer(desk: Desk, message_id: int) -> None:
    await desk.claim(1)
    await receipt(desk, message_id, "failed")


async def receipt_while_queued_again(desk: Desk, message_id: int) -> None:
    await tried(desk, TryLater("busy", "later", after=30.0))
    await receipt(desk, message_id, "sent")


async def receipt_after_doubt(desk: Desk, message_id: int) -> None:
    await tried(desk, InDoubt("cut off", "remote"))
    await receipt(desk, message_id, "delivered", by_id=False)


async def canceled(desk: Desk, message_id: int) -> None:
    await desk.outbox.cancel(desk.number.account_id, message_id)


async def canceled_in_doubt(desk: Desk, message_id: int) -> None:
    await tried(desk, InDoubt("cut off"))
    await desk.outbox.cancel(desk.number.account_id, message_id)


async def doubt_over_and_held(desk: Desk, _: int) -> None:
    await tried(desk, InDoubt("cut off"))
    since, desk.time.now = desk.time.now, desk.time.now + LIFETIME
    await desk.outbox.settle_doubts(desk.number.account_id, desk.number.id, since=since, timeout=20.0)


async def doubt_that_no_lane_settles(desk: Desk, _: int) -> None:
    """The device never comes back, or its number was removed."""
    await tried(desk, InDoubt("cut off"))
    desk.time.now += LIFETIME
    await desk.outbox.expire()


async def success_heard_of_after_doubt(desk: Desk, _: int) -> None:
    claimed = await tried(desk, InDoubt("cut off"))
    await desk.outbox.record(claimed, Sent("remote"))


async def put_back_from_a_backup(desk: Desk, _: int) -> None:
    await desk.database.write(lambda c: hold_after_restore.hold(c, desk.time.now))


async def put_back_while_in_doubt(desk: Desk, _: int) -> None:
    await tried(desk, InDoubt("cut off"))
    await desk.database.write(lambda c: hold_after_restore.hold(c, desk.time.now))


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


async def content(desk: Desk, message_id: int) -> str:
    found = await desk.database.read(
        lambda c: c.scalar(sa.select(messages.c.content).where(messages.c.id == message_id))
    )
    assert found is not None
    return found


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_the_text_of_a_code_is_gone_and_cannot_be_replayed(desk: Desk, way: Way) -> None:
    draft = desk.draft(body="kode 123456", sealed=True, origin="otp", lifetime=LIFETIME)
    [message_id] = (await desk.outbox.accept([draft])).ids
    assert await content(desk, message_id) != ""
    await way(desk, message_id)
    assert await content(desk, message_id) == ""
    with pytest.raises(NotPossible):
        await desk.outbox.replay(desk.number.account_id, message_id)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_any_other_text_stays(desk: Desk, way: Way) -> None:
    draft = desk.draft(body="halo", lifetime=LIFETIME)
    [message_id] = (await desk.outbox.accept([draft])).ids
    await way(desk, message_id)
    assert "halo" in await content(desk, message_id)


async def test_the_text_stays_while_the_code_may_go_out_once_more(desk: Desk) -> None:
    draft = desk.draft(body="kode 123456", sealed=True, origin="otp", lifetime=LIFETIME)
    [message_id] = (await desk.outbox.accept([draft])).ids
    await tried(desk, InDoubt("cut off"))
    await desk.outbox.expire()
    assert await content(desk, message_id) != ""
    since, desk.time.now = desk.time.now, desk.time.now + 30
    await desk.outbox.settle_doubts(desk.number.account_id, desk.number.id, since=since, timeout=20.0)
    [claimed] = await desk.claim(1)
    assert "123456" in claimed.content.body  # type: ignore[union-attr]


async def test_the_text_stays_while_a_try_follows_the_one_that_is_heard_to_have_failed(desk: Desk) -> None:
    draft = desk.draft(body="kode 123456", sealed=True, origin="otp", lifetime=LIFETIME)
    [message_id] = (await desk.outbox.accept([draft])).ids
    await tried(desk, TryLater("busy", "later", after=30.0))
    await receipt(desk, message_id, "failed")
    assert await desk.state(message_id) == "queued"
    desk.time.now += 30
    [claimed] = await desk.claim(1)
    assert "123456" in claimed.content.body  # type: ignore[union-attr]
