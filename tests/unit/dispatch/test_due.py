"""What becomes due while the lane is looking is sent then, not at the lane's next look by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.harness.gateway import PHONE, Harness, open_harness

from kurir.messages.channel_reports import Outcome, Sent, TryLater
from kurir.messages.content import Outgoing, Text
from kurir.outbox.message_rows import Claims
from kurir.outbox.outbox import Draft
from kurir.reasons import as_written

LATER = 0.5


@pytest.mark.parametrize("slow", ["the question", "the answer"])
async def test_a_slow_look_at_the_queue_misses_nothing_that_becomes_due(tmp_path: Path, slow: str):
    def outcome(outgoing: Outgoing) -> Outcome:
        return TryLater("busy", as_written("later"), after=LATER) if outgoing.attempt == 1 else Sent("second")

    async with open_harness(tmp_path) as harness:
        outbox, number = harness.gateway.outbox, harness.ours.device
        ask, looking = outbox.claim, asyncio.Event()

        async def claim(*question, **how) -> Claims:
            if slow == "the question" and looking.is_set():
                await asyncio.sleep(2 * LATER)
            found = await ask(*question, **how)
            if slow == "the answer" and looking.is_set():
                await asyncio.sleep(2 * LATER)
            return found

        outbox.claim = claim  # type: ignore[method-assign]
        harness.devices.outcome = outcome
        draft = Draft(account_id=number.account_id, number_id=number.id, recipient=PHONE, content=Text("halo"))
        message_id = (await outbox.accept([draft])).ids[0]
        await until(harness, message_id, "queued", "later")
        await asyncio.sleep(LATER / 4)  # nothing wakes the lane any more but this
        looking.set()
        harness.gateway.dispatcher.wake(number.account_id, number.id)
        await until(harness, message_id, "sent")


async def until(harness: Harness, message_id: int, state: str, reason: str = "") -> None:
    async with asyncio.timeout(10):
        while True:
            found = await harness.gateway.outbox.snapshot(harness.ours.account.id, message_id)
            assert found is not None
            if found.state == "sent" or (found.state == state and found.error_reason == reason):
                return
            await asyncio.sleep(0.02)
