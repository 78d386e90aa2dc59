"""Waiting for a message's outcome: whoever waits gets it, from this process or another, and nobody is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from kurir.messages.lifecycle import MessageState
from kurir.outbox import settlement_waiters
from kurir.outbox.message_rows import Snapshot
from kurir.outbox.settlement_waiters import SettlementWaiters
from kurir.reasons import NOTHING

LONG = 30.0
"""Seconds that no test waits."""


def message(state: MessageState, message_id: int = 1) -> Snapshot:
    return Snapshot(message_id, 1, 1, "628", "text", state, 0, None, "", NOTHING, 1.0, None)


class Stored:
    """The message as the database has it: the states of one look after another, the last one for ever."""

    def __init__(self, states: Sequence[MessageState | None]) -> None:
        self.states = states
        self.looks = 0
        self.looked = asyncio.Event()

    async def look(self) -> Snapshot | None:
        state = self.states[min(self.looks, len(self.states) - 1)]
        self.looks += 1
        self.looked.set()
        return message(state) if state is not None else None


async def waiting(waiters: SettlementWaiters, stored: Stored, timeout: float = LONG) -> asyncio.Task[Snapshot]:
    """Somebody who waits, and has looked once."""
    task = asyncio.create_task(waiters.wait(1, timeout, stored.look))
    await stored.looked.wait()
    for _ in range(3):
        await asyncio.sleep(0)
    return task


async def test_all_who_wait_for_a_message_get_its_outcome_and_no_others() -> None:
    waiters, stored = SettlementWaiters(), Stored(["queued"])
    first, second = await waiting(waiters, stored), await waiting(waiters, stored)
    assert waiters.awaited(1)
    assert not waiters.awaited(2)
    assert not waiters.resolve(message("sent", 2))
    assert not first.done()
    assert waiters.resolve(message("sent"))
    assert [await first, await second] == [message("sent")] * 2
    assert stored.looks == 2
    assert not waiters.awaited(1)
    assert not waiters.resolve(message("delivered")), "each outcome is passed on once"


async def test_who_leaves_takes_nobody_with_them() -> None:
    waiters, stored = SettlementWaiters(), Stored(["queued"])
    first, second = await waiting(waiters, stored), await waiting(waiters, stored)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert waiters.awaited(1)
    assert waiters.resolve(message("sent"))
    assert await second == message("sent")
    assert not waiters.awaited(1)


@pytest.mark.parametrize("state", ["sent", "failed", "unconfirmed"])
async def test_what_is_settled_already_is_not_waited_for(state: MessageState) -> None:
    waiters = SettlementWaiters()
    assert await waiters.wait(1, LONG, Stored([state]).look) == message(state)
    assert not waiters.awaited(1)


async def test_a_message_that_does_not_exist_is_an_error_and_is_not_waited_for() -> None:
    waiters = SettlementWaiters()
    with pytest.raises(KeyError, match="1"):
        await waiters.wait(1, LONG, Stored([None]).look)
    assert not waiters.awaited(1)


async def test_when_the_time_is_over_the_newest_state_is_the_answer() -> None:
    waiters, stored = SettlementWaiters(), Stored(["queued", "sending"])
    assert await waiters.wait(1, 0.01, stored.look) == message("sending")
    assert stored.looks == 2
    gone = Stored(["queued", None])
    assert await waiters.wait(1, 0.01, gone.look) == message("queued"), "as it was last seen"
    assert not waiters.awaited(1)


async def test_where_others_send_too_the_message_is_looked_at_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlement_waiters, "_LOOK", 0.001)
    stored = Stored(["queued", "queued", "sending", "sent"])
    assert await SettlementWaiters(shared=True).wait(1, LONG, stored.look) == message("sent")
    assert stored.looks == 4
    alone = Stored(["queued", "sent"])
    waiters = SettlementWaiters()
    task = await waiting(waiters, alone, timeout=0.02)
    await task
    assert alone.looks == 2, "once at the start and once at the end"


async def test_the_timeout_ends_looking_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlement_waiters, "_LOOK", 0.001)
    stored = Stored(["queued"])
    assert await SettlementWaiters(shared=True).wait(1, 0.01, stored.look) == message("queued")
    assert stored.looks >= 2


async def test_at_the_stop_whoever_waits_gets_the_present_state_and_nobody_begins_to_wait() -> None:
    waiters, stored = SettlementWaiters(), Stored(["queued", "sending"])
    first, second = await waiting(waiters, stored), await waiting(waiters, stored)
    assert not waiters.dismissed
    second.cancel()
    waiters.dismiss()
    assert waiters.dismissed
    assert await first == message("sending")
    assert await waiters.wait(1, LONG, Stored(["queued"]).look) == message("queued")
    assert not waiters.awaited(1)
