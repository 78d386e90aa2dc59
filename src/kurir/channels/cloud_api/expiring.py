"""A bounded map whose entries expire."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from kurir.kit.clock import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Expiring(Generic[K, V]):
    """At most `size` values, each for `seconds` after it was put; the oldest is evicted first."""

    def __init__(self, size: int, seconds: float, clock: Clock) -> None:
        self._size = size
        self._seconds = seconds
        self._clock = clock
        self._kept: dict[K, tuple[float, V]] = {}

    def get(self, key: K) -> V | None:
        """The value, or None when it is unknown or has expired."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        until, value = kept
        if self._clock() >= until:
            del self._kept[key]
            return None
        return value

    def put(self, key: K, value: V) -> V:
        """Stores `value` and returns it."""
        self._kept.pop(key, None)
        while len(self._kept) >= self._size:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = (self._clock() + self._seconds, value)
        return value

    def drop(self, key: K) -> None:
        """Removes `key`."""
        self._kept.pop(key, None)
