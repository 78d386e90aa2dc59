"""The least time between two sends of one linked device."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

from tests.harness.gateway import PHONE, open_harness

from kurir.messages.channel_reports import Outcome, Sent
from kurir.messages.content import Outgoing, Text
from kurir.outbox.outbox import Draft

GAP = 0.2


async def test_a_gap_holds_whatever_notifies_the_lane_and_after_it_had_nothing_to_do(tmp_path: Path):
    sent: list[float] = []

    def outcome(outgoing: Outgoing) -> Outcome:
        sent.append(time.monotonic())
        return Sent(f"id{outgoing.message_id}")

    async with open_harness(tmp_path, device_gap=GAP) as harness:
        harness.devices.outcome = outcome
        number = harness.ours.device
        for i in range(6):  # each one wakes the lane, the last few when it has sent all there was
            draft = Draft(
                account_id=number.account_id, number_id=number.id, recipient=f"{PHONE}{i}", content=Text("halo")
            )
            await harness.gateway.outbox.accept([draft])
            await harness.until_sent(max(1, i - 2))
        await harness.until_sent(6)
        async with asyncio.timeout(10):
            while len(sent) < 6:
                await asyncio.sleep(0.01)
    assert all(later - earlier >= GAP for earlier, later in itertools.pairwise(sent))
