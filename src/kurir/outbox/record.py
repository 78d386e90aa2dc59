"""The third verb: records the result of a try, and later receipts.

A result is accepted only for the try that is in flight: the attempt's number and its `due_at` are the fence, as a
person's replay begins again with attempt 1. Receipts may come before the result is recorded, twice, or out of order:
they only ever move a message up.
"""

from __future__ import annotations

from sqlalchemy import Connection

from kurir.messages.channel_reports import StatusChanged
from kurir.messages.lifecycle import MessageState, after_receipt
from kurir.outbox.message_rows import SNAPSHOT_COLUMNS, Claimed, Snapshot, snapshot
from kurir.outbox.retries import Decision, Requeue, Settled
from kurir.outbox.status_events import publish_status
from kurir.reasons import as_written, stored
from kurir.store.statements import Statement

_SETTLE = Statement(f"""
UPDATE messages
SET state = :state, remote_id = coalesce(:remote_id, remote_id), error_code = :code, error_reason = :reason,
    sent_at = CASE WHEN :state = 'sent' THEN :now ELSE sent_at END,
    ended_at = CASE WHEN :state IN ('failed','expired') THEN :now ELSE ended_at END,
    content = CASE WHEN sealed = 1 AND :state <> 'unconfirmed' THEN '' ELSE content END,
    doubt_until = :doubt_until
WHERE account_id = :account AND id = :id AND state = 'sending' AND attempts = :attempt AND due_at = :due
RETURNING {SNAPSHOT_COLUMNS}
""")  # noqa: S608 - our own columns

_REQUEUE = Statement(f"""
UPDATE messages
SET state = 'queued', due_at = :due_at, error_code = :code, error_reason = :reason, attempts = attempts - :uncount
WHERE account_id = :account AND id = :id AND state = 'sending' AND attempts = :attempt AND due_at = :due
RETURNING {SNAPSHOT_COLUMNS}
""")  # noqa: S608 - our own columns

_DOUBT_OVER = Statement(f"""
UPDATE messages SET state = 'sent', remote_id = :remote_id, sent_at = :now, error_code = '', error_reason = '',
    content = CASE WHEN sealed = 1 THEN '' ELSE content END, doubt_until = NULL
WHERE account_id = :account AND id = :id AND attempts = :attempt AND due_at = :due AND state = 'unconfirmed'
RETURNING {SNAPSHOT_COLUMNS}
""")  # noqa: S608 - our own columns
"""Records the success of a try that another gateway, which considered this one dead, has put in doubt."""

_ATTEMPT = Statement("""
INSERT INTO attempts (account_id, message_id, number, ended_at, outcome, code, reason)
VALUES (:account, :id, :attempt, :now, :outcome, :code, :reason)
""")

_RECEIPT = Statement(f"""
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
RETURNING {SNAPSHOT_COLUMNS}
""")  # noqa: S608 - our own columns

_FIND = f"SELECT {SNAPSHOT_COLUMNS} FROM messages WHERE account_id = :account"  # noqa: S608 - our own columns
_BY_ID = Statement(f"{_FIND} AND id = :id")
_BY_REMOTE_ID = Statement(f"{_FIND} AND number_id = :number AND remote_id = :remote_id LIMIT 1")


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
    tried = {"account": claimed.account_id, "id": claimed.id, "attempt": claimed.attempt}
    fence = {**tried, "due": claimed.due_at}
    code, reason = decision.code, stored(decision.reason)
    before: MessageState = "sending"
    match decision:
        case Settled(state, remote_id=remote_id):
            values = {"state": state, "remote_id": remote_id, "doubt_until": doubt_until, "now": now}
            row = _SETTLE.first(connection, code=code, reason=reason, **fence, **values)
            if row is None and state == "sent":
                row = _DOUBT_OVER.first(connection, remote_id=remote_id, now=now, **fence)
                before = "unconfirmed"
            moved = row is not None
        case Requeue(due_at, counted):
            values = {"due_at": due_at, "uncount": int(not counted)}
            row = _REQUEUE.first(connection, code=code, reason=reason, **fence, **values)
            moved = False
    _ATTEMPT.change(connection, outcome=outcome, code=code, reason=reason, now=now, **tried)
    if row is None:
        return by_id(connection, claimed.account_id, claimed.id)
    after = snapshot(row)
    if moved:
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
        "at": float(event.at),  # SQLite would store anything
        "remote_id": event.remote_id,
        "code": event.code,
        "reason": stored(as_written(event.reason)),
    }
    after = snapshot(_RECEIPT.first(connection, **parameters))
    publish_status(connection, message.state, after, now, event.at)
    return after


def by_id(connection: Connection, account_id: int, message_id: int) -> Snapshot | None:
    """Where the account's message stands, or None."""
    row = _BY_ID.first(connection, account=account_id, id=message_id)
    return snapshot(row) if row else None


def by_remote_id(connection: Connection, account_id: int, number_id: int, remote_id: str) -> Snapshot | None:
    """The account's message that the network knows as `remote_id`, or None."""
    row = _BY_REMOTE_ID.first(connection, account=account_id, number=number_id, remote_id=remote_id)
    return snapshot(row) if row else None


def ended(connection: Connection, account_id: int, message_id: int, before: MessageState, now: float) -> None:
    """Publishes a message's move that was caused by no try and no receipt."""
    if (after := by_id(connection, account_id, message_id)) is not None:
        publish_status(connection, before, after, now)
