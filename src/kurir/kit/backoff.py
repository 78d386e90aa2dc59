"""Growing pauses between tries that keep failing: doubled each time up to a limit, and short again after success."""

from __future__ import annotations


class Backoff:
    """The pauses between attempts at one thing, in seconds: `first`, then twice the last one, at most `most`."""

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self.last = 0.0
        """The latest pause; 0 before the first failure and after a reset."""

    def after_failure(self) -> float:
        """How long to wait now."""
        self.last = min(self.last * 2 or self._first, self._most)
        return self.last

    def reset(self) -> None:
        """Restarts with the first pause, after success or after a long enough run."""
        self.last = 0.0
