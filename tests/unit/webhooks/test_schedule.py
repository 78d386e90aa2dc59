"""When an event is tried again: bounds, order and what receivers may ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurir.webhooks.retry_schedule import (
    DEAD_AFTER,
    DELAYS,
    LONGEST_RETRY_AFTER,
    MOST_ATTEMPTS,
    Answered,
    Delivered,
    Exhausted,
    Gone,
    RetryLater,
    Unanswered,
    is_dead,
    judge,
    seconds_of,
)

NOW = 1_800_000_000.0
jitter = st.floats(0, 1, exclude_max=True)
bad = st.one_of(
    st.integers(100, 599).filter(lambda s: not 200 <= s < 300 and s != 410).map(Answered),
    st.text(max_size=20).map(Unanswered),
)


def test_the_delays_are_those_of_the_field() -> None:
    assert DELAYS == (5, 300, 1800, 7200, 18000, 36000, 36000)
    assert MOST_ATTEMPTS == 8


@given(st.integers(200, 299), st.integers(1, 20), jitter)
def test_any_2xx_is_success_however_late(status: int, attempt: int, roll: float) -> None:
    assert judge(Answered(status), attempt, NOW, roll) == Delivered()


def test_of_all_statuses_only_410_disables_the_endpoint() -> None:
    found = {status: type(judge(Answered(status), 1, NOW, 0.5)) for status in range(100, 600)}
    assert {status for status, step in found.items() if step is Gone} == {410}
    assert {status for status, step in found.items() if step is Delivered} == set(range(200, 300))


@given(bad, st.integers(1, MOST_ATTEMPTS - 1), jitter)
def test_a_failed_try_comes_again_within_a_tenth_of_its_delay(answer, attempt: int, roll: float) -> None:
    step = judge(answer, attempt, NOW, roll)
    assert isinstance(step, RetryLater)
    assert 0.9 * DELAYS[attempt - 1] - 1e-3 <= step.due_at - NOW <= 1.1 * DELAYS[attempt - 1] + 1e-3
    assert step.gives_way == (attempt >= 3)


@given(bad, st.integers(MOST_ATTEMPTS, 100), jitter)
def test_tries_run_out(answer, attempt: int, roll: float) -> None:
    assert judge(answer, attempt, NOW, roll) == Exhausted()


@given(st.integers(1, 100), jitter)
def test_gone_is_gone_at_once(attempt: int, roll: float) -> None:
    assert judge(Answered(410), attempt, NOW, roll) == Gone()


@given(st.integers(0, 10**9), st.integers(1, MOST_ATTEMPTS - 1), jitter)
def test_retry_after_is_never_undercut_and_never_hastens(retry_after: int, attempt: int, roll: float) -> None:
    step = judge(Answered(429, str(retry_after)), attempt, NOW, roll)
    plain = judge(Answered(429), attempt, NOW, roll)
    assert isinstance(step, RetryLater)
    assert isinstance(plain, RetryLater)
    assert step.due_at >= max(plain.due_at, NOW + min(retry_after, LONGEST_RETRY_AFTER))
    assert step.due_at <= max(plain.due_at, NOW + LONGEST_RETRY_AFTER)


def test_a_date_that_the_receiver_names_is_waited_for() -> None:
    step = judge(Answered(503, "Fri, 15 Jan 2027 08:01:40 GMT"), 1, NOW, 0.5)
    assert step == RetryLater(NOW + 100, gives_way=False)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 0),
        ("120", 120),
        (" 7 ", 7),
        ("Fri, 15 Jan 2027 08:01:40 GMT", 100),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
        ("-5", 0),
        ("1e9", 0),
        ("soon", 0),
        ("²", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float) -> None:
    assert seconds_of(header, NOW) == seconds


@given(st.text(max_size=60))
def test_no_retry_after_raises(header: str) -> None:
    assert seconds_of(header, NOW) >= 0


def test_an_endpoint_is_dead_after_days_of_failures_only() -> None:
    assert not is_dead(None, NOW)
    assert not is_dead(NOW - DEAD_AFTER + 1, NOW)
    assert is_dead(NOW - DEAD_AFTER, NOW)
