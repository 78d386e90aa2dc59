"""`kit/backoff`: pauses grow to a limit and begin small again."""

from __future__ import annotations

from kurir.kit.backoff import Backoff


def test_pauses_double_up_to_the_limit() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.after_failure() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_reset_begins_with_the_first_pause() -> None:
    backoff = Backoff(0.5, 30.0)
    backoff.after_failure()
    backoff.after_failure()
    backoff.reset()
    assert backoff.last == 0.0
    assert backoff.after_failure() == 0.5
    assert backoff.last == 0.5


def test_no_pause_is_longer_than_the_limit() -> None:
    assert Backoff(5.0, 2.0).after_failure() == 2.0
