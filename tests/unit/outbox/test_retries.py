"""The retry table: every row, and its bounds as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sentences import english

from kurir.messages.channel_reports import Halted, InDoubt, NotConnected, Refused, Restricted, Sent, TryLater
from kurir.outbox.retries import Requeue, Settled, decide, delay
from kurir.reasons import as_written

NOW, END = 1000.0, 1000.0 + 86_400


def after(outcome, attempt: int = 1, **changes):
    options = {"max_attempts": 8, "now": NOW, "expires_at": END, "jitter": 0.5, **changes}
    return decide(outcome, attempt=attempt, **options)


def test_the_rows_of_the_table():
    assert after(Sent("w")) == Settled("sent", remote_id="w")
    assert after(Refused("131026", as_written("no"))) == Settled("failed", "131026", as_written("no"))
    assert after(InDoubt(as_written("cut"), "w")) == Settled("unconfirmed", "in_doubt", as_written("cut"), "w")
    assert after(Halted("190", as_written("token"))) == Requeue(
        NOW, counted=False, code="190", reason=as_written("token")
    )
    assert after(Halted("190", as_written("token")), now=END) == Settled("expired", "190", as_written("token"))
    assert after(NotConnected(as_written("off"))) == Requeue(
        NOW, counted=False, code="not_connected", reason=as_written("off")
    )
    assert after(NotConnected(as_written("off")), now=END) == Settled("expired", "not_connected", as_written("off"))


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 2), (2, 8), (3, 32), (4, 128), (5, 300), (7, 300)])
def test_the_steps(attempt: int, seconds: float):
    assert after(TryLater("4", as_written("busy")), attempt) == Requeue(
        NOW + seconds, counted=True, code="4", reason=as_written("busy")
    )


def test_the_other_side_and_the_pair_rate_name_their_own_times():
    assert delay("4", 1, 17.0, 0.9) == 17.0
    assert [delay("131056", attempt, None, 0.5) for attempt in (1, 2, 3)] == [4, 16, 64]
    assert delay("131056", 6, None, 0.5) == delay("131056", 7, None, 0.5) == delay("131056", 50, None, 0.5) == 4096


def test_a_pair_rate_is_recognised_by_its_code():
    reason = as_written("pair rate")
    assert after(TryLater("131056", reason), 3) == Requeue(NOW + 64, True, "131056", reason)


def test_the_last_try_and_the_end_of_life():
    assert after(TryLater("media_not_stored", as_written("full"), counted=False), attempt=8).counted is False
    exhausted = after(TryLater("4", as_written("busy")), attempt=8)
    assert isinstance(exhausted, Settled)
    assert (exhausted.state, exhausted.code) == ("failed", "exhausted")
    assert after(TryLater("4", as_written("busy")), expires_at=NOW + 1) == Settled("expired", "4", as_written("busy"))
    assert after(TryLater("4", as_written("busy"), 10.0), expires_at=NOW + 10) == Settled(
        "expired", "4", as_written("busy")
    )
    assert after(TryLater("4", as_written("busy"), 10.0), expires_at=NOW + 10.1) == Requeue(
        NOW + 10, True, "4", as_written("busy")
    )


def test_fewer_tries_where_the_channel_says_so():
    assert isinstance(after(TryLater("4", as_written("busy"), most=3), attempt=2), Requeue)
    exhausted = after(TryLater("4", as_written("busy"), most=3), attempt=3)
    assert isinstance(exhausted, Settled)
    assert (exhausted.state, exhausted.code) == ("failed", "exhausted")
    assert "the last one: busy" in english(exhausted.reason)
    assert isinstance(after(TryLater("4", as_written("busy"), most=30), attempt=8), Settled)
    refused = after(Restricted("restricted", as_written("error 463")), attempt=3)
    assert isinstance(refused, Settled)
    queued = after(Restricted("restricted", as_written("error 463")), attempt=2)
    assert queued == Requeue(NOW + 8, counted=True, code="restricted", reason=as_written("error 463"))


@given(
    st.text(max_size=6), st.integers(1, 50), st.one_of(st.none(), st.floats(-5, 1e6)), st.floats(0, 1, exclude_max=True)
)
def test_a_delay_is_bounded_and_never_negative(code: str, attempt: int, asked: float | None, jitter: float):
    seconds = delay(code, attempt, asked, jitter)
    assert 0 <= seconds <= (max(asked, 0) if asked is not None else 4**6 * 1.2)


@given(st.integers(1, 8), st.floats(0, 1, exclude_max=True))
def test_a_retry_never_falls_behind_the_end_of_life(attempt: int, jitter: float):
    decision = after(TryLater("4", as_written("busy")), attempt, jitter=jitter, expires_at=NOW + 100)
    assert isinstance(decision, Settled) or NOW < decision.due_at < NOW + 100
