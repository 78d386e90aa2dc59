"""Waits of callers: they end by their timeout, and all at once when the process stops."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kurir.channels.linked_device.channel import LinkedDevices
from kurir.channels.linked_device.pairing import Pairing
from kurir.channels.linked_device.pairing_progress import PairingView
from kurir.channels.linked_device.peer_calls import FollowPairing, PairingAnswer
from kurir.kit.waits import Waits
from kurir.numbers.numbers import Number


async def wait(waits: Waits, seconds: float | None) -> str:
    try:
        async with waits.timeout(seconds):
            await asyncio.Event().wait()
    except TimeoutError:
        return "ended"
    return "came"


async def test_all_end_when_they_are_dismissed_and_later_ones_at_once() -> None:
    waits = Waits()
    waiting = [asyncio.ensure_future(wait(waits, seconds)) for seconds in (None, 60.0, None)]
    await asyncio.sleep(0)
    assert not waits.dismissed
    waits.dismiss()
    assert await asyncio.wait_for(asyncio.gather(*waiting), 5) == ["ended"] * 3
    assert (waits.dismissed, await asyncio.wait_for(wait(waits, None), 5)) == (True, "ended")


async def test_each_has_its_own_timeout() -> None:
    waits = Waits()
    longer = asyncio.ensure_future(wait(waits, None))
    assert await asyncio.wait_for(wait(waits, 0.01), 5) == "ended"
    assert not longer.done()
    waits.dismiss()
    waits.dismiss()
    assert await asyncio.wait_for(longer, 5) == "ended"


async def test_a_wait_that_just_ends_is_dismissed_too() -> None:
    """Its time is over, but it has not run since."""
    waits = Waits()
    waiting = asyncio.ensure_future(wait(waits, 0.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waits.dismiss()
    assert await asyncio.wait_for(waiting, 5) == "ended"


async def test_what_came_is_not_lost_and_a_cancellation_stays_one() -> None:
    waits = Waits()
    async with waits.timeout(5):
        pass
    waiting = asyncio.ensure_future(wait(waits, None))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    waits.dismiss()


async def test_a_pairing_at_another_gateway_is_asked_for_once_more() -> None:
    """Who waits for its next change when this gateway stops gets the state of now."""
    asked: list[float] = []

    async def forward(_number: Number, call: FollowPairing, _timeout: float) -> PairingAnswer:
        asked.append(call.timeout)
        if call.timeout:
            await asyncio.Event().wait()
        return PairingAnswer(PairingView("qr", qr="2@x"))

    devices = cast("LinkedDevices", SimpleNamespace(holds=lambda _id: False, forward=forward))
    pairing = Pairing(devices, lambda: 1.0)
    waiting = asyncio.ensure_future(pairing.next(cast("Any", SimpleNamespace(id=1)), 30.0))
    while not asked:
        await asyncio.sleep(0)
    pairing.dismiss()
    assert (await asyncio.wait_for(waiting, 5)).qr == "2@x"
    assert asked == [30.0, 0.0]
