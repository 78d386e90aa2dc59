"""A host process at awkward moments."""

from __future__ import annotations

import asyncio
import os

import pytest
from tests.unit.linked_device.conftest import SCRIPT

from kurir.channels.linked_device import protocol as say
from kurir.channels.linked_device.host_process import HostProcess


async def nothing(_news: object) -> None:
    """Takes no notice."""


async def test_a_cancellation_that_meets_the_answer_is_not_swallowed():
    process = await HostProcess.launch(SCRIPT, dict(os.environ), nothing)
    try:
        calling = asyncio.create_task(process.call(say.Ping(), 30))
        while not process._waiting:
            await asyncio.sleep(0)
        (future,) = process._waiting.values()
        future.set_result(say.Done())
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(asyncio.gather(calling)), 10)
    finally:
        process.kill()
        await process.ended()
