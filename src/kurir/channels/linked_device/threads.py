"""Threads of an engine host, with an owner: one that fails is reported and, when it is kept, started again.

The only module of the host that may start a thread (a lint checks it).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

BACK_OFF_FIRST, BACK_OFF_MOST = 0.5, 30.0
"""Seconds before a failed thread's work is begun again: doubled with each failure in a row."""

Report = Callable[[str], None]


def keep(name: str, work: Callable[[], None], closing: threading.Event, report: Report) -> threading.Thread:
    """A started daemon thread that runs `work` until it returns, and again with growing pauses whenever it raises.

    After `closing` is set it is not begun again. `report` gets a sentence about each failure.
    """

    def run() -> None:
        pause = BACK_OFF_FIRST
        while True:
            try:
                work()
                return
            except Exception as error:
                report(f"the thread {name} failed: {type(error).__name__}: {error}")
            if closing.wait(pause):
                return
            pause = min(pause * 2, BACK_OFF_MOST)

    return _start(name, run)


def spawn(name: str, work: Callable[[], None], report: Report) -> threading.Thread:
    """A started daemon thread that runs `work` once; `report` gets a sentence when it raises."""

    def run() -> None:
        try:
            work()
        except Exception as error:
            report(f"the thread {name} failed: {type(error).__name__}: {error}")

    return _start(name, run)


def _start(name: str, run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
