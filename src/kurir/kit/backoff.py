"""Growing pauses between tries that keep failing: doubled each time up to a limit, and short again after success."""

from __future__ import annotations

_DOUBLINGS = 64
"""More doublings than any limit is away; a number that fails for weeks must not overflow."""


def pause_after(failures: int, first: float, most: float) -> float:
    """Seconds to wait after so many failures in a row: `first` after one, twice as long each time, at most `most`."""
    return min(first * 2.0 ** min(failures - 1, _DOUBLINGS), most)


class Backoff:
    """The pauses between attempts at one thing, in seconds: `first`, then twice the last one, at most `most`."""

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self._failures = 0
        self.last = 0.0
        """The latest pause; 0 before the first failure and after a reset."""

    def after_failure(self) -> float:
        """How long to wait now."""
        self._failures += 1
        self.last = pause_after(self._failures, self._first, self._most)
        return self.last

    def reset(self) -> None:
        """Restarts with the first pause, after success or after a long enough run."""
        self._failures, self.last = 0, 0.0
