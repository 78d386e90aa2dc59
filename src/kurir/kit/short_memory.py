"""A memory of things that were looked up: bounded in number, and each is forgotten after the same few seconds.

For the hot path: `cachetools.TTLCache` takes ten times as long to find something.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ShortMemory(Generic[K, V]):
    """Values by key, each for `seconds` after it was put; with more than `most` the oldest go first.

    Times are unix seconds of the caller's clock.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._kept: dict[K, tuple[V, float]] = {}  # in the order in which they end

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K, now: float) -> V | None:
        """The value, or None when there is none any more."""
        found = self._kept.get(key)
        if found is None:
            return None
        if now < found[1]:
            return found[0]
        del self._kept[key]
        return None

    def put(self, key: K, value: V, now: float) -> None:
        """Remembers a value from now on, and forgets what has ended."""
        self._kept.pop(key, None)
        self._kept[key] = value, now + self._seconds
        for oldest in list(self._ended(now)):
            del self._kept[oldest]

    def drop(self, key: K) -> None:
        """Forgets a value."""
        self._kept.pop(key, None)

    def _ended(self, now: float) -> Iterator[K]:
        surplus = len(self._kept) - self._most
        for place, (key, (_value, until)) in enumerate(self._kept.items()):
            if place >= surplus and now < until:
                break
            yield key
