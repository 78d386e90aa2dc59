"""Ends waits for a database that is stuck: one timer for all of them, as most end long before their time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

_TICK = 0.1
"""Seconds between two looks while anything waits: a wait may take that much longer than it should."""


class _Wait(NamedTuple):
    until: float
    stands: Callable[[Any], bool]
    give_up: Callable[[Any], object]


class Timeouts:
    """The waits of one event loop, each named by an object of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waits: dict[Any, _Wait] = {}
        self._next: asyncio.TimerHandle | None = None

    def begin(self, name: Any, seconds: float, stands: Callable[[Any], bool], give_up: Callable[[Any], object]) -> None:
        """Calls `give_up(name)` once, after `seconds`, as soon as `stands(name)` says that the database is stuck."""
        self._waits[name] = _Wait(self._loop.time() + seconds, stands, give_up)
        if self._next is None:
            self._next = self._loop.call_later(_TICK, self._look)

    def end(self, name: Any) -> None:
        """The wait is over."""
        self._waits.pop(name, None)

    def _look(self) -> None:
        now = self._loop.time()
        late = [(name, wait) for name, wait in self._waits.items() if wait.until <= now]
        self._next = None
        try:
            for name, wait in late:
                if wait.stands(name):
                    self._waits.pop(name, None)
                    wait.give_up(name)
        finally:  # whatever one of them raises, the others are looked at again
            if self._waits:
                self._next = self._loop.call_later(_TICK, self._look)
