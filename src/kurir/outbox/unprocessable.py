"""Quarantines messages that cannot be processed, so that those behind them go on.

Two kinds: a row whose content cannot be decoded (written by a newer version, or damaged), and a message whose outcome
cannot be recorded. The row stays, in an end state with the code `unprocessable`; an entry in the quarantine names it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.messages.channel_reports import InDoubt, Outcome, Quarantined, Sent
from kurir.messages.lifecycle import MessageState
from kurir.outbox import record
from kurir.outbox.message_rows import Snapshot
from kurir.quarantine import quarantine
from kurir.reasons import Reason, stored

CODE = "unprocessable"

_END = sa.text("""
UPDATE messages
SET state = :state, error_code = :code, error_reason = :reason, doubt_until = NULL,
    remote_id = coalesce(:remote_id, remote_id),
    sent_at = CASE WHEN :state = 'sent' THEN :now ELSE sent_at END,
    ended_at = CASE WHEN :state = 'failed' THEN :now ELSE ended_at END,
    content = CASE WHEN sealed = 1 THEN '' ELSE content END
WHERE account_id = :account AND id = :id AND state = 'sending' AND attempts = :attempt AND due_at = :due
""")
_CONTENT = sa.text("SELECT content FROM messages WHERE account_id = :account AND id = :id AND sealed = 0")


class Tried(NamedTuple):
    """The try that failed: which message, which attempt (see `Claimed`)."""

    id: int
    account_id: int
    number_id: int
    attempt: int
    due_at: float


def end(
    connection: Connection,
    tried: Tried,
    state: MessageState,
    reason: Reason,
    *,
    now: float,
    remote_id: str | None = None,
    entry: bool = True,
) -> Snapshot | None:
    """Ends the message in `state` and, with `entry`, writes it into the quarantine; None when the attempt is no longer
    in flight."""
    which = {"account": tried.account_id, "id": tried.id}
    content: Any = connection.execute(_CONTENT, which).scalar()
    moved = connection.execute(
        _END,
        {
            **which,
            "attempt": tried.attempt,
            "due": tried.due_at,
            "state": state,
            "code": "" if state == "sent" else CODE,
            "reason": "" if state == "sent" else stored(reason),
            "now": now,
            "remote_id": remote_id,
        },
    ).rowcount
    if not moved:
        return None
    if entry:
        kept = Quarantined(
            account_id=tried.account_id,
            number_id=tried.number_id,
            queue="outbox",
            reference=str(tried.id),
            reason=stored(reason),
            payload=str(content or "").encode(),
        )
        quarantine.add(connection, kept, now)
    return record.by_id(connection, tried.account_id, tried.id)


def state_after(outcome: Outcome) -> MessageState:
    """The final state of a message whose outcome cannot be recorded as usual: what is known must not get lost."""
    match outcome:
        case Sent():
            return "sent"
        case InDoubt():
            return "unconfirmed"
        case _:  # it surely did not leave, but its retry cannot be recorded
            return "failed"
