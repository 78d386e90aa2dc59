"""Identifiers: message ids that sort in acceptance order, and opaque public ids.

A message id is a 63-bit integer: milliseconds since 2024-01-01 (41 bits), then 22 bits counted up within the
process from a random start each millisecond. It is allocated before the insert, so an accept needs no round trip.
"""

from __future__ import annotations

import random
import secrets
import string
import threading
import time

_EPOCH_MS = 1_704_067_200_000
_COUNTER_BITS = 22
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
"""Two digits, by their value."""
_ALPHANUMERIC = string.ascii_letters + string.digits


class MessageIds:
    """Allocates message ids; each is greater than the one before, also when the clock steps back."""

    def __init__(self) -> None:
        self._last = 0
        self._rng = random.Random(secrets.randbits(64))  # noqa: S311 - spread, not a secret
        self._lock = threading.Lock()

    def next(self) -> int:
        """A new id."""
        with self._lock:
            milliseconds = time.time_ns() // 1_000_000 - _EPOCH_MS
            # starts at random in the lower half of the counter's range, so that two processes hardly ever collide
            fresh = (milliseconds << _COUNTER_BITS) | self._rng.getrandbits(_COUNTER_BITS - 1)
            self._last = max(fresh, self._last + 1)
            return self._last


def first_id_at(at: float) -> int:
    """The least id that a message accepted at that unix time can have."""
    return max(0, int(at * 1000) - _EPOCH_MS) << _COUNTER_BITS


def public_message_id(message_id: int) -> str:
    """A message id as callers see it: `msg_` and 13 Crockford base-32 digits."""
    pairs = _PAIRS
    return (
        f"msg_{_ALPHABET[message_id >> 60 & 31]}{pairs[message_id >> 50 & 1023]}{pairs[message_id >> 40 & 1023]}"
        f"{pairs[message_id >> 30 & 1023]}{pairs[message_id >> 20 & 1023]}{pairs[message_id >> 10 & 1023]}"
        f"{pairs[message_id & 1023]}"
    )


def parse_message_id(text: str) -> int | None:
    """The inverse of `public_message_id`; None for anything else."""
    body = text.removeprefix("msg_").lower()
    if not text.startswith("msg_") or len(body) != 13 or any(c not in _ALPHABET for c in body):
        return None
    value = 0
    for character in body:
        value = value * 32 + _ALPHABET.index(character)
    return value if value < 1 << 63 else None


def opaque_id(length: int = 16) -> str:
    """A random id of letters and digits."""
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(length))
