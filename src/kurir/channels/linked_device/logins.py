"""Logins of a device that do not last: when to stop the engine, and how long to pause it. Pure.

The engine reconnects the moment a connection ends that had logged in (whatsmeow's `autoReconnect`, whose pause restarts
at zero with each login, and its handling of stream error 515, which has none). A server that ends each connection right
after the login would therefore get a hundred connections a second, from every device of every gateway.
"""

from __future__ import annotations

import random

from kurir.kit.backoff import pause_after

SHORT = 10.0
"""A connection that lasted fewer seconds counts as short."""
STEADY = 60.0
"""Seconds a connection must have lasted for earlier short ones to be forgotten."""
MOST = 5
"""Short connections in a row until the engine is stopped; a phone in a tunnel may cause as many."""
PROBATION = 3.0
"""Seconds for which a login must have lasted, after pauses, before the device counts as connected."""
_FIRST, _LONGEST = 1.0, 300.0
_JITTER = 0.25


class Logins:
    """The logins of one device since its opening; `most` short connections are allowed, 0 after a pause.

    Times are monotonic seconds.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._last: float | None = None
        self.short = 0
        """Short connections in a row."""

    def note(self, now: float) -> bool:
        """Records a login; False: the connections before it were so short that the engine should be stopped."""
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
        """Records a lost connection; False: it came after a pause, and so soon that the engine should be stopped. The
        engine reports a login some seconds late when the connection is gone, so this may come first."""
        return self._most >= MOST or (self._last is not None and now - self._last >= SHORT)

    def on_probation(self, now: float) -> bool:
        """Whether a login at `now` may not last."""
        steady = self._last is not None and now - self._last >= STEADY
        return self._most < MOST and not steady


def pause(times: int) -> float:
    """Seconds for which a device is paused whose engine was stopped `times` in a row: growing, with jitter, so that
    devices which lost their connections together do not return together."""
    return spread(pause_after(times, _FIRST, _LONGEST))


def spread(seconds: float) -> float:
    """A random duration between `seconds` and a quarter more."""
    return seconds * random.uniform(1.0, 1.0 + _JITTER)  # noqa: S311 - spreads load, guards nothing
