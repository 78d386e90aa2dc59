"""Waits of callers for something that may never come, all of which end when the process stops.

The server stops with its last request, so each long wait in a request is one of these.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Waits:
    """Waits with a timeout, which `dismiss` ends early."""

    def __init__(self) -> None:
        self._open: set[asyncio.Timeout] = set()
        self._dismissed = False

    @property
    def dismissed(self) -> bool:
        """Whether the process stops and nobody is to wait any more."""
        return self._dismissed

    @asynccontextmanager
    async def timeout(self, seconds: float | None) -> AsyncGenerator[None]:
        """Raises TimeoutError when what is within takes longer than `seconds` (None: any time), or is dismissed."""
        async with asyncio.timeout(0 if self._dismissed else seconds) as wait:
            self._open.add(wait)
            try:
                yield
            finally:
                self._open.discard(wait)

    def dismiss(self) -> None:
        """Ends all waits, and each later one at once."""
        self._dismissed = True
        now = asyncio.get_running_loop().time()
        for wait in self._open:
            if not wait.expired():
                wait.reschedule(now)
