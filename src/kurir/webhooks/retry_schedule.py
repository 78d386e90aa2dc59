"""When an event is tried again, and when an endpoint is given up. Pure.

The delays are customary for webhooks: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h, together a little over a day. Any 2xx
is success; 410 (Gone) means that the receiver wants nothing more.
"""

from __future__ import annotations

import email.utils

import msgspec

from kurir.reasons import Reason

DELAYS = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 36_000.0)
"""Seconds after the first, second, … failed try."""
MOST_ATTEMPTS = len(DELAYS) + 1
JITTER = 0.1
"""Each delay is stretched or shortened by up to this share, so that a backlog is not retried all at once."""
LONGEST_RETRY_AFTER = 86_400.0
"""Seconds of a Retry-After that are honoured."""
GIVES_WAY = 3
"""Failed tries after which an event lets the later ones of its chat pass, if others were delivered meanwhile."""
FAILING = 3
"""Failures in a row from which an endpoint counts as failing: fewer tries at once, and all anew when one succeeds."""
DEAD_AFTER = 5 * 86_400.0
"""Seconds of nothing but failures after which an endpoint is disabled."""


class Answered(msgspec.Struct, frozen=True):
    """The receiver answered with a status; `retry_after` is that header as it came, `answer` the start of the body."""

    status: int
    retry_after: str = ""
    answer: str = ""


class Unanswered(msgspec.Struct, frozen=True):
    """There was no answer, for a reason."""

    reason: Reason


ReceiverResponse = Answered | Unanswered


class Delivered(msgspec.Struct, frozen=True):
    """The receiver has the event."""


class RetryLater(msgspec.Struct, frozen=True):
    """To be tried again at `due_at` (unix seconds); `gives_way`: see `GIVES_WAY`."""

    due_at: float
    gives_way: bool


class Exhausted(msgspec.Struct, frozen=True):
    """All tries are used up; the event stays for a replay."""


class Gone(msgspec.Struct, frozen=True):
    """The receiver wants nothing more: its endpoint is to be disabled."""


NextStep = Delivered | RetryLater | Exhausted | Gone


def judge(answer: ReceiverResponse, attempt: int, now: float, jitter: float) -> NextStep:
    """What follows from the answer to try number `attempt` (1 = the first); `jitter` is uniform in [0, 1)."""
    if isinstance(answer, Answered):
        if 200 <= answer.status < 300:
            return Delivered()
        if answer.status == 410:
            return Gone()
    if attempt >= MOST_ATTEMPTS:
        return Exhausted()
    delay = DELAYS[attempt - 1] * (1 - JITTER + 2 * JITTER * jitter)
    retry_after = seconds_of(answer.retry_after, now) if isinstance(answer, Answered) else 0.0
    return RetryLater(now + max(delay, min(retry_after, LONGEST_RETRY_AFTER)), gives_way=attempt >= GIVES_WAY)


def seconds_of(retry_after: str, now: float) -> float:
    """A Retry-After header (RFC 9110: seconds or a date) as seconds from `now`; 0 for none, the past, or nonsense."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0


def is_dead(failing_since: float | None, now: float) -> bool:
    """Whether an endpoint is to be disabled; `failing_since` is its first failure after its last success."""
    return failing_since is not None and now - failing_since >= DEAD_AFTER
