"""The least time between two sends of one linked device, and how long a number rests that sends too fast."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

from tests.harness.gateway import PHONE, open_harness

from kurir.dispatch.lane import _LONGEST_REST
from kurir.messages.channel_reports import Outcome, Sent, TryLater
from kurir.messages.content import Outgoing, Text
from kurir.outbox.outbox import Draft
from kurir.reasons import as_written

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


async def test_a_number_that_is_slowed_down_for_weeks_rests_the_longest_time(tmp_path: Path):
    slowed = TryLater("slow_down", as_written("too fast"), 10.0, counted=False, whole_number=True)
    async with open_harness(tmp_path) as harness:
        lane = await harness.gateway.dispatcher._opened(harness.ours.account.id, harness.ours.device.id)
        assert lane is not None
        del harness.gateway.dispatcher._lanes[lane.number.id]  # it does not run, so a stop need not wait for it
        rests: list[float] = []
        for _ in range(2_000):
            lane._rests_until = 0.0
            lane._slow_down(slowed)
            rests.append(round(lane._rests_until - time.monotonic()))
        assert rests[:4] == [10, 20, 40, 80]
        assert set(rests[9:]) == {_LONGEST_REST}
        lane._slow_down(Sent("1"))
        lane._rests_until = 0.0
        lane._slow_down(slowed)
        assert round(lane._rests_until - time.monotonic()) == 10
