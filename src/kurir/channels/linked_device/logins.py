"""Logins of a device that do not last: when to stop the engine, and how long to leave it alone then. Pure.

The engine begins anew the moment a connection ends that had logged in (whatsmeow's `autoReconnect`, whose pause begins
at nothing with each login, and its answer to stream error 515, which has none). A server that ends each connection
right after the login is thereby asked a hundred times a second, by every device of every gateway.
"""

from __future__ import annotations

import random

SHORT = 10.0
"""Seconds: the login after a connection that lasted less follows upon a short one."""
STEADY = 60.0
"""Seconds that a connection must have lasted for the short ones before it to be forgotten."""
MOST = 5
"""Short connections in a row until the engine is stopped; a person who walks through a tunnel has as many."""
PROBATION = 3.0
"""Seconds for which a login must have held, after pauses, before the device counts as connected."""
_FIRST, _LONGEST = 1.0, 300.0
_JITTER = 0.25


class Logins:
    """The logins of one device since its opening; `most` short connections are let pass, 0 after a pause.

    Times are monotonic seconds.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._last: float | None = None
        self.short = 0
        """Short connections in a row."""

    def note(self, now: float) -> bool:
        """A login; False: the connections before it were so short that the engine should be stopped."""
        lasted = now - self._last if self._last is not None else None
        self._last = now
        if lasted is None:
            return True
        if lasted >= STEADY:
            self.short, self._most = 0, MOST
        elif lasted < SHORT:
            self.short += 1
        return self.short <= self._most

    def lost(self, now: float) -> bool:
        """A lost line; False: after a pause, and so soon that the engine should be stopped. The engine tells of a login
        some seconds late when the connection is gone, so this may come first."""
        return self._most >= MOST or (self._last is not None and now - self._last >= SHORT)

    def on_probation(self, now: float) -> bool:
        """Whether there is reason to doubt that a login of now will hold."""
        steady = self._last is not None and now - self._last >= STEADY
        return self._most < MOST and not steady


def pause(times: int) -> float:
    """Seconds for which a device is left alone whose engine was stopped `times` in a row: growing, with some chance, so
    that devices which lost their connections together do not come back together.
    """
    return spread(min(_FIRST * 2 ** (min(times, 32) - 1), _LONGEST))


def spread(seconds: float) -> float:
    """At least so many seconds, up to a quarter more."""
    return seconds * random.uniform(1.0, 1.0 + _JITTER)  # noqa: S311 - spreads load, guards nothing
