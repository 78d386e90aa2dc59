"""Limits how often one line is logged: once a minute by default, however often its cause occurs."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable

EVERY = 60.0
"""Seconds after which the same line is logged again."""
_MOST_KEYS = 1_000
"""Lines with further keys are not logged until older ones are forgotten."""


class LogLimit:
    """Remembers when a line was last logged, by key where there are several. Thread-safe, of bounded size.

    `every`: seconds between two lines with the same key, `EVERY` when None.
    """

    def __init__(self, every: float | None = None) -> None:
        self._every = every
        self._lock = threading.Lock()
        self._logged_at: dict[Hashable, float] = {}

    def is_due(self, key: Hashable = "", now: float | None = None) -> bool:
        """Whether to log the line now; if so, the time is recorded. `now`: seconds of any one clock."""
        now, every = time.monotonic() if now is None else now, EVERY if self._every is None else self._every
        with self._lock:
            self._logged_at = {known: at for known, at in self._logged_at.items() if now - at < every}
            if key in self._logged_at or len(self._logged_at) >= _MOST_KEYS:
                return False
            self._logged_at[key] = now
            return True
