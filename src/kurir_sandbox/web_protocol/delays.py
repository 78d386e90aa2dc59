"""Delays: what happens on this wire some seconds later, because a fault wants it late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger(__name__)


class Delays:
    """Acts that wait for their time. A stopped wire forgets them."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Task[None]] = set()

    def after(self, seconds: float, act: Callable[[], Awaitable[object]]) -> None:
        """Does `act` in `seconds`."""
        task = asyncio.get_running_loop().create_task(self._later(seconds, act))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def stop(self) -> None:
        """Forgets what still waits."""
        waiting = list(self._waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def _later(self, seconds: float, act: Callable[[], Awaitable[object]]) -> None:
        await asyncio.sleep(seconds)
        try:
            await act()
        except Exception:
            log.exception("delayed_action_failed")
