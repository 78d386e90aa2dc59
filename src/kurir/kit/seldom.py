"""Log lines that would come again and again: when one is due."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

_MOST = 1_000


class Seldom:
    """Remembers what was said when, for `seconds` and of the last thousand things. Any thread may ask."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._said: OrderedDict[Hashable, float] = OrderedDict()
        self._lock = threading.Lock()

    def is_due(self, what: Hashable, now: float) -> bool:
        """Whether `what` was not said for so long; it counts as said now. `now`: seconds of any one clock."""
        with self._lock:
            before = self._said.get(what)
            if before is not None and abs(now - before) < self._seconds:
                return False
            self._said[what] = now
            self._said.move_to_end(what)
            if len(self._said) > _MOST:
                self._said.popitem(last=False)
            return True
