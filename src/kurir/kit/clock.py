"""Clocks: everything that needs the time takes a `Clock` as an argument, so that tests can control it.

A gateway uses a `SteadyClock`. It reads the system's time once and then follows the hardware's count of seconds
(`CLOCK_BOOTTIME`, which also counts while the machine sleeps). It follows the small corrections of a time service but
no jump, so that setting the system's clock does not make entries expire, retry or be deleted too early or too late. A
restart takes over the new time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import structlog

Clock = Callable[[], float]
"""Gives the time in unix seconds."""

system_clock: Clock = time.time
"""The system's time as it is: for comparison with the clocks of others, and for single commands."""

_JUMP = 5.0
"""Seconds of difference between two readings above which a change counts as a jump, not as a correction."""

log = structlog.get_logger(__name__)


def _wall() -> float:
    return time.time()


_counted: Clock = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


class SteadyClock:
    """A clock in unix seconds that runs on evenly when `wall` jumps; `counted` gives seconds from any start."""

    def __init__(self, wall: Clock = _wall, counted: Clock = _counted) -> None:
        self._wall = wall
        self._counted = counted
        self._offset = wall() - counted()
        self._astray = False

    def __call__(self) -> float:
        counted = self._counted()
        offset = self._wall() - counted
        if -_JUMP <= offset - self._offset <= _JUMP:
            self._offset = offset
            if self._astray:
                self._astray = False
                log.warning("clock_recovered")
        elif not self._astray:
            self._astray = True
            log.error(
                "clock_jumped",
                seconds=round(offset - self._offset),
                advice="the gateway goes on with its own time; restart it when the system's clock is right",
            )
        return counted + self._offset
