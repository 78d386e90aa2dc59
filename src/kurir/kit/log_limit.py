"""How often the log is told what anybody may cause, or what lasts: once a minute, however often it happens."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable

EVERY = 60.0
"""Seconds after which the same is said again."""


class LogLimit:
    """What was said of late, by a key where there are several things to say. May be asked from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said_at: dict[Hashable, float] = {}

    def is_due(self, what: Hashable = "") -> bool:
        """Whether to say it now, which is noted: it was not said within the last `EVERY` seconds."""
        now = time.monotonic()
        with self._lock:
            self._said_at = {known: at for known, at in self._said_at.items() if now - at < EVERY}
            if what in self._said_at:
                return False
            self._said_at[what] = now
            return True


class LogSummary:
    """Counts what happens, and says it summed up: `say` gets the counts `EVERY` seconds after the first of them.

    For the event loop's thread.
    """

    def __init__(self, say: Callable[[dict[str, int]], None]) -> None:
        self._say = say
        self._counts: Counter[str] = Counter()

    def note(self, what: str) -> None:
        """It happened once."""
        if not self._counts:
            asyncio.get_running_loop().call_later(EVERY, self._sum_up)
        self._counts[what] += 1

    def _sum_up(self) -> None:
        counts, self._counts = self._counts, Counter()
        self._say(dict(counts))
