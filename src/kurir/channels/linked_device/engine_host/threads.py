"""Supervised threads of an engine host: one that fails is reported and, when it is kept, restarted.

The names of failing kept threads go to the gateway with every answer to a ping (see `failing`). Only this module of the
host may start threads (a lint checks it).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from kurir.kit.backoff import Backoff

BACK_OFF_FIRST, BACK_OFF_MOST = 0.5, 30.0
"""Seconds before a failed thread's work is restarted: the first pause and the longest; doubled with each failure in a
row."""
STEADY = 60.0
"""Seconds that work must have run for the pauses to restart at the first; it counts as recovered after as long as its
last pause, and after this at most."""

Report = Callable[[str], None]


class _Failure(NamedTuple):
    """The type name of a thread's last exception, and the monotonic time from which it counts as recovered (None while
    it is down)."""

    name: str
    reason: str
    over_at: float | None


_failures: dict[int, _Failure] = {}
_lock = threading.Lock()


def failing() -> dict[str, str]:
    """The kept threads of this process that are down or not yet steady, by name, each with the type name of its
    exception."""
    now = time.monotonic()
    with _lock:
        return {one.name: one.reason for one in _failures.values() if one.over_at is None or now < one.over_at}


def keep(name: str, work: Callable[[], None], closing: threading.Event, report: Report) -> threading.Thread:
    """Starts a daemon thread that runs `work` until it returns, and restarts it with growing pauses whenever it raises.

    After `closing` is set it is not restarted. `report` gets a sentence about each failure.
    """

    def run() -> None:
        key = threading.get_ident()
        try:
            _run_again(key, name, work, closing, report)
        finally:
            with _lock:
                _failures.pop(key, None)

    return _start(name, run)


def spawn(name: str, work: Callable[[], None], report: Report) -> threading.Thread:
    """Starts a daemon thread that runs `work` once; `report` gets a sentence when it raises."""

    def run() -> None:
        try:
            work()
        except Exception as error:
            report(f"the thread {name} failed: {type(error).__name__}: {error}")

    return _start(name, run)


def _run_again(key: int, name: str, work: Callable[[], None], closing: threading.Event, report: Report) -> None:
    backoff = Backoff(BACK_OFF_FIRST, BACK_OFF_MOST)
    while True:
        began = time.monotonic()
        try:
            work()
            return
        except Exception as error:
            if time.monotonic() - began > STEADY:
                backoff.reset()
            reason = type(error).__name__
            _note(key, _Failure(name, reason, None))
            report(f"the thread {name} failed: {reason}: {error}")
        if closing.wait(backoff.after_failure()):
            return
        _note(key, _Failure(name, reason, time.monotonic() + min(backoff.last, STEADY)))


def _note(key: int, failure: _Failure) -> None:
    with _lock:
        _failures[key] = failure


def _start(name: str, run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
