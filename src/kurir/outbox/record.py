"""The third verb: records the result of a try, and later receipts.

A result is accepted only for the try that is in flight: the attempt's number and its `due_at` are the fence, as a
person's replay begins again with attempt 1. Receipts may come before the result is recorded, twice, or out of order:
they only ever move a message up.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.messages.channel_reports import StatusChanged
from kurir.messages.lifecycle import MessageState, after_receipt
from kurir.outbox.message_rows import SNAPSHOT_COLUMNS, Claimed, Snapshot, snapshot
from kurir.outbox.retries import Decision, Requeue, Settled
from kurir.outbox.status_events import publish_status
from kurir.reasons import as_written, stored

_SETTLE = sa.text("""
UPDATE messages
SET state = :state, remote_id = coalesce(:remote_id, remote_id), error_code = :code, error_reason = :reason,
    sent_at = CASE WHEN :state = 'sent' THEN :now ELSE sent_at END,
    ended_at = CASE WHEN :state IN ('failed','expired') THEN :now ELSE ended_at END,
    content = CASE WHEN sealed = 1 AND :state <> 'unconfirmed' THEN '' ELSE content END,
    doubt_until = :doubt_until
WHERE account_id = :account AND id = :id AND state = 'sending' AND attempts = :attempt AND due_at = :due
""")

_REQUEUE = sa.text("""
UPDATE messages
SET state = 'queued', due_at = :due_at, error_code = :code, error_reason = :reason, attempts = attempts - :uncount
WHERE account_id = :account AND id = :id AND state = 'sending' AND attempts = :attempt AND due_at = :due
""")

_DOUBT_OVER = sa.text("""
UPDATE messages SET state = 'sent', remote_id = :remote_id, sent_at = :now, error_code = '', error_reason = '',
    content = CASE WHEN sealed = 1 THEN '' ELSE content END, doubt_until = NULL
WHERE account_id = :account AND id = :id AND attempts = :attempt AND due_at = :due AND state = 'unconfirmed'
""")
"""Records the success of a try that another gateway, which considered this one dead, has put in doubt."""

_ATTEMPT = sa.text("""
INSERT INTO attempts (account_id, message_id, number, ended_at, outcome, code, reason)
VALUES (:account, :id, :attempt, :now, :outcome, :code, :reason)
""")

_RECEIPT = sa.text("""
UPDATE messages
SET state = :state, remote_id = coalesce(remote_id, :remote_id),
    sent_at = CASE WHEN :status <> 'failed' THEN coalesce(sent_at, :at) ELSE sent_at END,
    delivered_at = CASE WHEN :status IN ('delivered','read') THEN coalesce(delivered_at, :at) ELSE delivered_at END,
    read_at = CASE WHEN :status = 'read' THEN coalesce(read_at, :at) ELSE read_at END,
    ended_at = CASE WHEN :state = 'failed' THEN :at ELSE ended_at END,
    error_code = CASE WHEN :state = 'failed' THEN :code WHEN :state <> 'unconfirmed' THEN '' ELSE error_code END,
    error_reason = CASE WHEN :state = 'failed' THEN :reason WHEN :state <> 'unconfirmed' THEN '' ELSE error_reason END,
    content = CASE WHEN sealed = 1 THEN '' ELSE content END,
    doubt_until = NULL
WHERE account_id = :account AND id = :id
""")

_FIND = f"SELECT {SNAPSHOT_COLUMNS} FROM messages WHERE account_id = :account"  # noqa: S608 - our own columns
_BY_ID = sa.text(f"{_FIND} AND id = :id")
_BY_REMOTE_ID = sa.text(f"{_FIND} AND number_id = :number AND remote_id = :remote_id LIMIT 1")


def record(
    connection: Connection,
    claimed: Claimed,
    outcome: str,
    decision: Decision,
    *,
    now: float,
    doubt_until: float | None = None,
) -> Snapshot | None:
    """Writes a try's result and its attempt row; returns the message's new state.

    `doubt_until` is when an unconfirmed message may go out once more (unix seconds); None when it is held.
    """
    tried = {"account": claimed.account_id, "id": claimed.id, "attempt": claimed.attempt, "now": now}
    fence = {**tried, "due": claimed.due_at}
    moved = 0
    before: MessageState = "sending"
    match decision:
        case Settled(state, code, reason, remote_id):
            values = {
                "state": state,
                "code": code,
                "reason": stored(reason),
                "remote_id": remote_id,
                "doubt_until": doubt_until,
            }
            moved = connection.execute(_SETTLE, {**fence, **values}).rowcount
            if not moved and state == "sent":
                moved = connection.execute(_DOUBT_OVER, {**fence, "remote_id": remote_id}).rowcount
                before = "unconfirmed"
        case Requeue(due_at, counted, code, reason):
            values = {"due_at": due_at, "code": code, "reason": stored(reason), "uncount": int(not counted)}
            connection.execute(_REQUEUE, {**fence, **values})
    connection.execute(
        _ATTEMPT, {**tried, "outcome": outcome, "code": decision.code, "reason": stored(decision.reason)}
    )
    after = by_id(connection, claimed.account_id, claimed.id)
    if moved and after is not None:
        publish_status(connection, before, after, now)
    return after


def receipt(connection: Connection, message: Snapshot, event: StatusChanged, now: float) -> Snapshot:
    """Applies a receipt to its message; the state only moves up (see `messages.lifecycle`)."""
    state: MessageState = after_receipt(message.state, event.status)
    if state == message.state and event.status == "failed":
        return message
    parameters = {
        "account": event.account_id,
        "id": message.id,
        "state": state,
        "status": event.status,
        "at": event.at,
        "remote_id": event.remote_id,
        "code": event.code,
        "reason": stored(as_written(event.reason)),
    }
    connection.execute(_RECEIPT, parameters)
    after = by_id(connection, event.account_id, message.id)
    assert after is not None
    publish_status(connection, message.state, after, now, event.at)
    return after


def by_id(connection: Connection, account_id: int, message_id: int) -> Snapshot | None:
    """Where the account's message stands, or None."""
    return _one(connection, _BY_ID, {"account": account_id, "id": message_id})


def by_remote_id(connection: Connection, account_id: int, number_id: int, remote_id: str) -> Snapshot | None:
    """The account's message that the network knows as `remote_id`, or None."""
    return _one(connection, _BY_REMOTE_ID, {"account": account_id, "number": number_id, "remote_id": remote_id})


def ended(connection: Connection, account_id: int, message_id: int, before: MessageState, now: float) -> None:
    """Publishes a message's move that was caused by no try and no receipt."""
    if (after := by_id(connection, account_id, message_id)) is not None:
        publish_status(connection, before, after, now)


def _one(connection: Connection, statement: sa.TextClause, parameters: dict[str, Any]) -> Snapshot | None:
    row = connection.execute(statement, parameters).first()
    return snapshot(row) if row else None
