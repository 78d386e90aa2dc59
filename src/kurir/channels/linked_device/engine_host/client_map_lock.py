"""Keeps starts and stops of engine clients apart from calls that are just entering the engine.

The engine keeps its clients in plain maps without a lock: a start or stop while a call looks its client up ends the
whole process ("concurrent map read and map write"). The look-up is the first thing a call does, so it is enough that
no call enters during a change, and that a change waits until the last entry lies `SETTLE` seconds back.
"""

from __future__ import annotations

import threading
import time

SETTLE = 0.05
"""Seconds between a call's entry and the latest moment at which it may still be looking its client up."""
TIMEOUT = 3.0
"""Most seconds a change may keep calls waiting."""


class Change:
    """A start or stop under way; ends by `end`, which may come from any thread, or after `TIMEOUT`."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._once = threading.Lock()
        self._ended = False
        self._timer = threading.Timer(TIMEOUT, self.end)
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        """Lets calls in again. Idempotent."""
        with self._once:
            if self._ended:
                return
            self._ended = True
        self._timer.cancel()
        self._lock.release()


class ClientMapLock:
    """One per process. Entering costs a lock; changes are serialised."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pause = threading.Event()  # never set: a way to wait
        self._last_entry = 0.0

    def enter(self) -> None:
        """Call right before a call into the engine; waits while a change is under way."""
        with self._lock:
            self._last_entry = time.monotonic()

    def change(self) -> Change:
        """Begins a start or stop: from now on no call enters until the change has ended."""
        self._lock.acquire()
        remaining = self._last_entry + SETTLE - time.monotonic()
        if remaining > 0:
            self._pause.wait(remaining)
        return Change(self._lock)
