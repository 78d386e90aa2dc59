"""What a message waits for, decided from facts. Pure.

Every interface that shows a queued message shows this too: the compatible API, the command line, the operator API, and
the reason of an expired message. The sentences are in `reasons.waiting`; each names the command that helps, where one
does.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from kurir.messages.lifecycle import MessageState
from kurir.numbers.numbers import Number
from kurir.reasons import NOTHING, Code, Reason, as_written
from kurir.reasons import waiting as words

Cause = Literal[
    "removed",
    "paused",
    "unpaired",
    "pairing",
    "logged_out",
    "replaced",
    "outdated",
    "banned",
    "restricted",
    "degraded",
    "connecting",
    "ahead",
    "doubt_ahead",
    "retry",
    "file",
    "turn",
    "sending",
    "receipt",
    "decision",
    "database",
    "stopping",
]
Ahead = Literal["", "message", "doubt"]
"""What keeps a later message to the same person back: an earlier one that is queued or in flight, or one in doubt."""

OF_ITS_OWN: frozenset[Cause] = frozenset({"turn", "sending", "database"})
"""Causes that pass by themselves within moments, or that are unknown."""
_SURELY: frozenset[Cause] = frozenset({"removed", "paused", "logged_out", "replaced", "outdated"})
"""Causes that end only when a person acts, or not within an hour."""
_REASON = 150


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a message that has not left. Times in unix seconds.

    `number` is None when it was removed; `state` and `reason` say how it is connected, as the gateway that holds it
    sees it, and `opens_at` when a banned device tries again, where that is known. `code` and `last` are the latest
    try's. `file_missing`: its picture or file has not been fetched. `may_resend`: a message in doubt that goes out once
    more without a person.
    """

    number: Number | None
    message: MessageState = "queued"
    due_at: float = 0.0
    ahead: Ahead = ""
    code: str = ""
    last: Reason = NOTHING
    state: str = ""
    reason: Reason = NOTHING
    opens_at: float | None = None
    file_missing: bool = False
    may_resend: bool = False


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """What a message waits for: the cause, the number's key, the reason that is known, and seconds until it changes."""

    cause: Cause
    number: str = ""
    reason: Reason = NOTHING
    seconds: int | None = None


UNKNOWN = Waiting(cause="database")
"""What a message waits for cannot be read now."""
STOPPING = Waiting(cause="stopping")
"""This process sends nothing more; queued messages wait until a gateway runs."""


def waiting_for(facts: Facts, now: float) -> Waiting:  # noqa: PLR0911 - one return for each cause
    """What the message waits for now. Call it for a message that is queued, in flight or unconfirmed."""
    if facts.message == "sending":
        return Waiting(cause="sending")
    if facts.message == "unconfirmed":
        return Waiting(cause="receipt" if facts.may_resend else "decision")
    if facts.number is None:
        return Waiting(cause="removed")
    blocked = number_waits(facts.number, facts.state, facts.reason, now, facts.opens_at)
    if blocked is not None:
        return blocked
    if facts.ahead:
        return Waiting(cause="ahead" if facts.ahead == "message" else "doubt_ahead")
    if facts.due_at > now and facts.code == "restricted":
        return restricted(facts.number, facts.last, facts.due_at, now)
    if facts.due_at > now:
        return Waiting(
            cause="retry",
            reason=(facts.last or as_written(facts.code)).shortened(_REASON),
            seconds=_left(facts.due_at, now),
        )
    return Waiting(cause="file" if facts.file_missing else "turn")


def number_waits(
    number: Number, state: str, reason: Reason, now: float, opens_at: float | None = None
) -> Waiting | None:
    """Why the number sends nothing now; None when it can. `state` and `reason` of its connection.

    A pause comes first: a person decided on it, and it keeps its messages back however the number is connected.
    """
    if number.paused:
        return Waiting(cause="paused", number=number.key, reason=number.pause_reason.shortened(_REASON))
    cause: Cause
    match state or number.state:
        case "connected":
            return None
        case "logged_out" | "replaced" | "outdated" | "banned" | "restricted" | "degraded" | "pairing" as known:
            cause = known
        case "disconnected" if not number.jid:
            cause = "unpaired"
        case _:
            cause = "connecting"
    seconds = _left(opens_at, now) if opens_at is not None else None
    return Waiting(
        cause=cause, number=number.key, reason=(reason or number.state_reason).shortened(_REASON), seconds=seconds
    )


def restricted(number: Number, reason: Reason, until: float, now: float) -> Waiting:
    """A first contact of a restricted number waits until then (unix seconds)."""
    return Waiting(cause="restricted", number=number.key, reason=reason.shortened(_REASON), seconds=_left(until, now))


def lasts(waiting: Waiting, seconds: float) -> bool:
    """Whether it surely lasts longer than `seconds`: a person has to act, or the time of its end is later."""
    if waiting.cause in {"banned", "restricted"}:
        return waiting.seconds is None or waiting.seconds >= seconds
    return waiting.cause in _SURELY


def reason_of(waiting: Waiting) -> Reason:
    """What it waits for, as a reason whose sentence is half a sentence."""
    code = _CODES[waiting.cause]
    values = {
        "number": waiting.number,
        "because": words.BECAUSE(reason=waiting.reason) if waiting.reason else NOTHING,
        "when": words.WHEN(seconds=waiting.seconds) if waiting.seconds is not None else NOTHING,
    }
    return code(**{name: values[name] for name in code.placeholders})


def _left(at: float, now: float) -> int:
    return max(1, round(at - now))


_CODES: dict[Cause, Code] = {
    "removed": words.REMOVED,
    "paused": words.PAUSED,
    "unpaired": words.UNPAIRED,
    "pairing": words.PAIRING,
    "logged_out": words.LOGGED_OUT,
    "replaced": words.REPLACED,
    "outdated": words.OUTDATED,
    "banned": words.BANNED,
    "restricted": words.RESTRICTED,
    "degraded": words.DEGRADED,
    "connecting": words.CONNECTING,
    "ahead": words.AHEAD,
    "doubt_ahead": words.DOUBT_AHEAD,
    "retry": words.RETRY,
    "file": words.FILE,
    "turn": words.TURN,
    "sending": words.SENDING,
    "receipt": words.RECEIPT,
    "decision": words.DECISION,
    "database": words.DATABASE,
    "stopping": words.STOPPING,
}
