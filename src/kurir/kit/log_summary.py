"""Sums up in one line what happens often: once a minute, with how often each thing happened."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from kurir.kit import log_limit


class LogSummary:
    """Counts occurrences and logs a summary: `report` gets the counts `log_limit.EVERY` seconds after the first one.

    Used on the event loop's thread only.
    """

    def __init__(self, report: Callable[[dict[str, int]], None]) -> None:
        self._report = report
        self._counts: Counter[str] = Counter()

    def note(self, what: str) -> None:
        """Counts one occurrence of `what`."""
        if not self._counts:
            asyncio.get_running_loop().call_later(log_limit.EVERY, self._sum_up)
        self._counts[what] += 1

    def _sum_up(self) -> None:
        counts, self._counts = self._counts, Counter()
        self._report(dict(counts))
