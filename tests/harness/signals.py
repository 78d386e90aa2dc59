"""Signals that a test can wait for."""

from __future__ import annotations

import asyncio
from collections import Counter

from kurir.kit.test_signals import Moment, TestSignals


class Signals(TestSignals):
    """Counts the moments as they come."""

    def __init__(self) -> None:
        self.count: Counter[Moment] = Counter()
        self._emitted = asyncio.Event()

    def emit(self, moment: Moment) -> None:
        self.count[moment] += 1
        self._emitted.set()

    async def reached(self, moment: Moment, count: int = 1, timeout: float = 10.0) -> None:
        """Waits until a moment has come so often since the start."""
        async with asyncio.timeout(timeout):
            while self.count[moment] < count:
                self._emitted.clear()
                await self._emitted.wait()

    async def next(self, moment: Moment, times: int = 1) -> None:
        """Waits until a moment has come so often from now on."""
        await self.reached(moment, self.count[moment] + times)
