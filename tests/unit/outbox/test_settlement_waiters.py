"""Waiting for a message that was accepted a moment ago: nothing is looked up, and nothing is missed."""

from __future__ import annotations

import asyncio

import pytest
from tests.harness.outbox import OutboxHarness

from kurir.messages.channel_reports import Sent
from kurir.outbox import settlement_waiters
from kurir.outbox.message_rows import Snapshot
from kurir.outbox.settlement_waiters import SettlementWaiters
from kurir.reasons import NOTHING


def settled(message_id: int) -> Snapshot:
    return Snapshot(message_id, 1, 1, "628111", "text", "sent", 1, "wamid.1", "", NOTHING, 1.0, None)


async def never() -> Snapshot | None:
    raise AssertionError("it was looked up")


async def test_settled_before_anybody_waits_it_is_answered_at_once() -> None:
    waiters = SettlementWaiters()
    waiters.expect(7)
    assert waiters.awaited(7)
    assert waiters.resolve(settled(7))
    assert await waiters.wait(7, 0.0, never) == settled(7)
    assert not waiters.awaited(7)


async def test_settled_while_somebody_waits_it_is_not_looked_up() -> None:
    waiters = SettlementWaiters()
    waiters.expect(7)
    waiting = asyncio.create_task(waiters.wait(7, 10, never))
    await asyncio.sleep(0)
    assert waiters.resolve(settled(7))
    assert await waiting == settled(7)


async def test_not_settled_in_time_it_is_looked_up_once_at_the_end() -> None:
    waiters, looks = SettlementWaiters(), []

    async def look() -> Snapshot | None:
        looks.append(1)
        return settled(7)

    waiters.expect(7)
    assert await waiters.wait(7, 0.01, look) == settled(7)
    assert len(looks) == 1


async def test_not_settled_in_time_and_gone_it_is_unknown() -> None:
    async def gone() -> Snapshot | None:
        return None

    waiters = SettlementWaiters()
    waiters.expect(7)
    with pytest.raises(KeyError):
        await waiters.wait(7, 0.01, gone)


async def test_where_others_send_too_it_is_looked_up_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlement_waiters, "_LOOK", 0.01)
    looks: list[int] = []

    async def look() -> Snapshot | None:
        looks.append(1)
        return settled(7) if len(looks) == 3 else queued()

    waiters = SettlementWaiters(shared=True)
    waiters.expect(7)
    assert await waiters.wait(7, 10, look) == settled(7)
    assert len(looks) == 3


def queued() -> Snapshot:
    return Snapshot(7, 1, 1, "628111", "text", "queued", 0, None, "", NOTHING, 1.0, None)


async def test_at_the_stop_its_present_state_is_read() -> None:
    async def look() -> Snapshot | None:
        return queued()

    waiters = SettlementWaiters()
    waiters.expect(7)
    waiters.dismiss()
    assert await waiters.wait(7, 10, look) == queued()


async def test_what_nobody_comes_for_is_forgotten_and_looked_up_when_somebody_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settlement_waiters, "EXPECTED", 3)

    async def look() -> Snapshot | None:
        return settled(1)

    waiters = SettlementWaiters()
    for message_id in range(1, 5):
        waiters.expect(message_id)
    assert [message_id for message_id in range(1, 5) if waiters.awaited(message_id)] == [2, 3, 4]
    assert not waiters.resolve(settled(1))
    assert await waiters.wait(1, 0.0, look) == settled(1)


async def test_another_account_learns_nothing_of_an_expected_message(harness: OutboxHarness) -> None:
    message_id = (await harness.outbox.accept([harness.draft()], awaited=True)).ids[0]
    (claimed,) = await harness.claim()
    await harness.outbox.record(claimed, Sent("wamid.1"))
    with pytest.raises(KeyError):
        await harness.outbox.wait_until_settled(harness.number.account_id + 1, message_id, 0.0)
    assert (await harness.outbox.wait_until_settled(harness.number.account_id, message_id, 0.0)).state == "sent"
