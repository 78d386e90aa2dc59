"""Time as an argument: everything that asks for the time asks a `Clock`, so that tests can drive it.

A gateway's own clock is steady. It reads the system's time once and then follows the hardware's count of seconds
(`CLOCK_BOOTTIME`, which also counts while the machine sleeps); it goes along with the small corrections of a time
service, but not with a jump: when somebody sets the system's clock, what waits must not expire, be tried or be
forgotten by that much too early or too late. Only a restart believes the new time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

Clock = Callable[[], float]
"""Gives the time in unix seconds."""

system_clock: Clock = time.time
"""The system's time, whatever it says: for what is compared with other people's clocks, and for single commands."""

_JUMP = 5.0
"""Seconds of difference, between two looks, that are no correction any more."""

log = structlog.get_logger(__name__)


def _wall() -> float:
    return time.time()


def _counted() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SteadyClock:
    """A clock in unix seconds that goes on evenly when `wall` jumps; `counted` is seconds from any start."""

    def __init__(self, wall: Clock = _wall, counted: Clock = _counted) -> None:
        self._wall = wall
        self._counted = counted
        self._offset = wall() - counted()
        self._astray = False

    def __call__(self) -> float:
        counted, wall = self._counted(), self._wall()
        difference = wall - counted - self._offset
        if abs(difference) <= _JUMP:
            self._offset = wall - counted
            if self._astray:
                self._astray = False
                log.warning("clock_agrees_again")
        elif not self._astray:
            self._astray = True
            log.error(
                "clock_jumped",
                seconds=round(difference),
                advice="the gateway goes on with its own time; restart it when the system's clock is right",
            )
        return counted + self._offset
