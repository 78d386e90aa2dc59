"""A lock between starts and stops of engine clients and calls that are entering the engine.

The engine keeps its clients in plain maps without a lock: a start or stop while a call looks its client up crashes the
whole process ("concurrent map read and map write"). The look-up is the first thing a call does, so it suffices that no
call enters during a change, and that a change starts at least `SETTLE` seconds after the last entry.
"""

from __future__ import annotations

import threading
import time

SETTLE = 0.05
"""Seconds from a call's entry within which it looks its client up."""
TIMEOUT = 3.0
"""Maximum seconds for which a change may block calls."""


class Change:
    """Holds the lock while a client starts or stops; released by `end`, from any thread, or after `TIMEOUT`."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._once = threading.Lock()
        self._ended = False
        self._timer = threading.Timer(TIMEOUT, self.end)
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        """Releases the lock. Idempotent."""
        with self._once:
            if self._ended:
                return
            self._ended = True
        self._timer.cancel()
        self._lock.release()


class ClientMapLock:
    """The lock of one process. Entering is cheap; changes are serialized."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pause = threading.Event()  # never set; used as an interruptible sleep
        self._last_entry = 0.0

    def enter(self) -> None:
        """Call right before a call into the engine; waits while a change is in progress."""
        with self._lock:
            self._last_entry = time.monotonic()

    def change(self) -> Change:
        """Starts a change: from now on no call enters until it has ended."""
        self._lock.acquire()
        remaining = self._last_entry + SETTLE - time.monotonic()
        if remaining > 0:
            self._pause.wait(remaining)
        return Change(self._lock)
