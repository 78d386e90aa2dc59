"""The request limit of accounts, against the `limits` package's own sliding windows on the same clock."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import parse_many
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from tests.harness.properties import examples

from kurir.accounts.limits import RequestLimit
from kurir.accounts.sliding_windows import Allowance, SlidingWindows

NOTATIONS = [
    "5/second",
    "3/10 second",
    "2/second;5/minute",
    "4/minute;4/minute",
    "0/second",
    "1/minute;3/second",
    "9/hour",
]
START = 1_764_000_000.0


class Reference:
    """The package's limiter, asked as Kurir once asked it."""

    def __init__(self, notation: str) -> None:
        self._items = parse_many(notation)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def take(self, who: str, now: float) -> Allowance:
        found: list[Allowance] = []
        for item in self._items:
            allowed = self._limiter.hit(item, who)
            stats = self._limiter.get_window_stats(item, who)
            reset = max(1, math.ceil(stats.reset_time - now))
            one = Allowance(allowed, item.amount, stats.remaining if allowed else 0, reset)
            if not allowed:
                return one
            found.append(one)
        return min(found, key=lambda allowance: allowance.remaining)


@contextmanager
def the_packages_clock() -> Iterator[list[float]]:
    """A time that the test sets, and the package without its threads."""
    now = [START]
    with (
        patch("limits.storage.memory.time.time", lambda: now[0]),
        patch("limits.storage.memory.threading.Timer"),
    ):
        yield now


pauses = st.floats(0, 3) | st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0, 2.0, 10.0, 59.9, 60.0, 120.0, 3600.0, 90_000.0])


@given(st.sampled_from(NOTATIONS), st.lists(st.tuples(pauses, st.sampled_from(["1", "2"])), min_size=1, max_size=60))
@settings(max_examples=examples(400))
def test_every_answer_is_the_packages(notation: str, requests: list[tuple[float, str]]) -> None:
    windows = SlidingWindows(parse_many(notation))
    with the_packages_clock() as now:
        reference = Reference(notation)
        for pause, who in requests:
            now[0] += pause
            assert windows.take(who, now[0]) == reference.take(who, now[0])


def test_groups_and_accounts_are_counted_apart() -> None:
    limit = RequestLimit("1/minute")
    assert limit.take(1, "", START).allowed
    assert limit.take(1, "otp", START).allowed
    assert limit.take(2, "", START).allowed
    assert not limit.take(1, "", START).allowed


def test_a_clock_that_goes_back_a_little_frees_nothing() -> None:
    limit = RequestLimit("2/minute")
    at = START // 60 * 60
    assert [limit.take(1, "", at + 0.001).allowed for _ in range(3)] == [True, True, False]
    assert not limit.take(1, "", at - 0.001).allowed
    assert not limit.take(1, "", at + 0.002).allowed


def test_who_asks_no_longer_is_forgotten_and_nobody_else() -> None:
    windows = SlidingWindows(parse_many("1/minute"))
    for caller in range(10_000):
        windows.take(caller, START + caller)
    assert len(windows) < 2_000
    assert not windows.take(9_999, START + 9_999).allowed


@pytest.mark.parametrize("left", [0, 1])
def test_the_headers_say_what_is_left(left: int) -> None:
    allowance = Allowance(bool(left), 5, left, 7)
    expected = {"RateLimit-Limit": "5", "RateLimit-Remaining": str(left), "RateLimit-Reset": "7"}
    assert allowance.headers() == (expected if left else expected | {"Retry-After": "7"})
