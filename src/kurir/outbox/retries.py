"""Decides after an outcome: settled in a state, or retried at a time. Pure; the clock and the jitter are arguments.

| outcome | then |
| --- | --- |
| Sent | sent |
| Refused | failed, with its code and reason |
| InDoubt | unconfirmed: held, never resent on a guess |
| NotConnected | queued again at once, no attempt counted: the lane waits for the connection |
| Halted | the same, and the number is paused until a person resumes it |
| TryLater | queued again after 2, 8, 32, 128 s, then every 5 min, ±20 %; a time the other side named wins |
| TryLater, uncounted | the same, until its lifetime is over: a disk of ours is full, our database does not answer |
| TryLater, whole number | the same; the lane sends nothing until then |
| Restricted | a first contact waits, and with it the number (see `restrictions`); else as TryLater, three tries |
| TryLater 131056 (pair rate) | queued again after 4^attempt s, as Meta advises |
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from kurir.messages.channel_reports import Halted, InDoubt, NotConnected, Outcome, Refused, Restricted, Sent, TryLater
from kurir.messages.lifecycle import MessageState
from kurir.reasons import NOTHING, Reason
from kurir.reasons.messages import EXHAUSTED

PAIR_RATE_CODE = "131056"
_TRIES_OF_ONE_PERSON = 3
"""Where the number has been in contact with somebody, a restriction concerns that one person."""
_STEPS = (2.0, 8.0, 32.0, 128.0)
_CEILING = 300.0
_JITTER = 0.2


class Settled(msgspec.Struct, frozen=True):
    """The dispatcher is done with the message, which is now in `state`."""

    state: MessageState
    code: str = ""
    reason: Reason = NOTHING
    remote_id: str | None = None


class Requeue(msgspec.Struct, frozen=True):
    """The message is queued again, due at `due_at` (unix seconds); `counted` says whether the attempt counts."""

    due_at: float
    counted: bool
    code: str
    reason: Reason


Decision = Settled | Requeue


def decide(  # noqa: PLR0911 - one return for each row of the table above
    outcome: Outcome, *, attempt: int, max_attempts: int, now: float, expires_at: float, jitter: float
) -> Decision:
    """What to do after try number `attempt` (1 = the first) ended in `outcome`. `jitter` is uniform in [0, 1)."""
    match outcome:
        case Sent(remote_id):
            return Settled("sent", remote_id=remote_id)
        case Refused(code, reason):
            return Settled("failed", code, reason)
        case InDoubt(reason, remote_id):
            return Settled("unconfirmed", "in_doubt", reason, remote_id)
        case NotConnected(reason):
            if now >= expires_at:
                return Settled("expired", "not_connected", reason)
            return Requeue(now, counted=False, code="not_connected", reason=reason)
        case Halted(code, reason):
            if now >= expires_at:
                return Settled("expired", code, reason)
            return Requeue(now, counted=False, code=code, reason=reason)
        case Restricted(code, reason):
            later = TryLater(code, reason, most=_TRIES_OF_ONE_PERSON)
            return decide(
                later, attempt=attempt, max_attempts=max_attempts, now=now, expires_at=expires_at, jitter=jitter
            )
        case TryLater(code, reason, after, counted, most):
            if counted and attempt >= min(max_attempts, most or max_attempts):
                return Settled("failed", "exhausted", EXHAUSTED(tries=attempt, last=reason))
            due_at = now + delay(code, attempt, after, jitter)
            if due_at >= expires_at:
                return Settled("expired", code, reason)
            return Requeue(due_at, counted=counted, code=code, reason=reason)
        case _:
            assert_never(outcome)


def delay(code: str, attempt: int, after: float | None, jitter: float) -> float:
    """Seconds to wait after try number `attempt`; never shorter than what the other side asked for."""
    if code == PAIR_RATE_CODE:
        base = float(4 ** min(attempt, 6))
    else:
        base = _STEPS[attempt - 1] if 1 <= attempt <= len(_STEPS) else _CEILING
    jittered = base * (1 - _JITTER + 2 * _JITTER * jitter)
    return max(after, 0.0) if after is not None else jittered
