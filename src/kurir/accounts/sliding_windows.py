"""The request limit of each account: sliding windows counted in this process's memory.

The decisions are those of the `limits` package's SlidingWindowCounterRateLimiter: the requests of the present window
plus those of the one before, weighted by how much of that still counts. The package starts a thread every few
milliseconds to forget old counts; here they are forgotten when new ones need room.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import msgspec
from limits import RateLimitItem

_FEW = 1_000
"""Callers below which nothing is forgotten."""


class Allowance(msgspec.Struct, frozen=True):
    """The state of a caller's tightest limit. `reset` is whole seconds until requests are available again."""

    allowed: bool
    limit: int
    remaining: int
    reset: int

    def headers(self) -> dict[str, str]:
        """The `RateLimit-*` headers of every answer, and `Retry-After` when the request was refused."""
        reset = str(self.reset)
        found = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": reset,
        }
        if not self.allowed:
            found["Retry-After"] = reset
        return found


class _Count:
    """One caller's requests in one limit's present window and in the one before."""

    __slots__ = ("current", "previous", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.previous = self.current = 0

    def move(self, window: int) -> None:
        """Goes on to a later window."""
        self.previous = self.current if window == self.window + 1 else 0
        self.current = 0
        self.window = window


class SlidingWindows:
    """Counts requests of any number of callers against the same limits."""

    def __init__(self, items: Sequence[RateLimitItem]) -> None:
        """`items` as parsed by `limits`, at least one."""
        assert items, "a parsed notation has at least one limit"
        # a limit that is written twice counts each request twice, as in the package
        same = [(item.amount, item.multiples, item.GRANULARITY.name) for item in items]
        self._limits = [
            (item.amount, item.get_expiry(), same.index(key)) for item, key in zip(items, same, strict=True)
        ]
        self._counts: dict[Hashable, list[_Count]] = {}
        self._room = _FEW

    def __len__(self) -> int:
        return len(self._counts)

    def take(self, caller: Hashable, now: float) -> Allowance:
        """Counts one request at `now` (unix seconds); one refused by a limit is not counted against the following ones.

        Returns the state of the limit that refused it, or of the one with the fewest requests remaining.
        """
        counts = self._counts.get(caller)
        if counts is None:
            counts = self._begun(caller, now)
        tightest = None
        least = 0
        for amount, seconds, place in self._limits:
            count = counts[place]
            if (window := int(now / seconds)) > count.window:
                count.move(window)
            used = count.current + 1
            earlier = count.previous * _previous_ends_in(now, seconds) / seconds if count.previous else 0.0
            remaining = amount - math.floor(earlier + used)
            if remaining < 0:
                return Allowance(False, amount, 0, _reset(count, now, seconds))
            count.current = used
            if tightest is None or remaining < least:
                tightest, least = (amount, seconds, count), remaining
        assert tightest is not None, "there is a limit"
        amount, seconds, count = tightest
        return Allowance(True, amount, least, _reset(count, now, seconds))

    def _begun(self, caller: Hashable, now: float) -> list[_Count]:
        """The counts of a caller without any; those of callers who made no request for two windows are forgotten."""
        if len(self._counts) >= self._room:
            self._counts = {
                known: counts
                for known, counts in self._counts.items()
                if any(counts[place].window + 1 >= int(now / seconds) for _amount, seconds, place in self._limits)
            }
            self._room = max(_FEW, 2 * len(self._counts))
        counts = self._counts[caller] = [_Count(int(now / seconds)) for _amount, seconds, _place in self._limits]
        return counts


def _previous_ends_in(now: float, seconds: int) -> float:
    return (1 - (((now - seconds) / seconds) % 1)) * seconds


def _reset(count: _Count, now: float, seconds: int) -> int:
    """Whole seconds, at least one, until another request of this window or of the previous one no longer counts."""
    wait = math.inf
    if count.previous:
        wait = _previous_ends_in(now, seconds) % (seconds / count.previous)
    if count.current:
        wait = min(wait, ((1 - ((now / seconds) % 1)) * seconds + seconds) % seconds)
    if wait is math.inf:
        return 1
    return max(1, math.ceil(now + wait - now))
