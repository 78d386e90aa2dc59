"""Recovery after a crash: messages in flight without a lane, and unconfirmed ones.

A number has one lane, which ends only when nothing is in flight; so whatever is `sending` when a lane begins was left
by one that crashed.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.outbox import doubt
from kurir.outbox.tables import attempts, messages
from kurir.reasons import stored
from kurir.reasons.messages import NO_RECEIPT
from kurir.store.statements import Statement

_DOUBT_SETTING = Statement("SELECT doubt FROM accounts WHERE id = :account")
_LEFT = Statement("""
SELECT * FROM messages WHERE number_id = :number AND +account_id = :account AND state = 'sending' ORDER BY priority, id
""")
_DOUBTS = Statement("""
SELECT id, origin, attempts, expires_at, doubt_until FROM messages
WHERE number_id = :number AND +account_id = :account AND doubt_until IS NOT NULL
""")


def left_in_flight(connection: Connection, account_id: int, number_id: int) -> list[Any]:
    """The number's messages that are `sending`, as rows, in sending order."""
    return _LEFT.all(connection, account=account_id, number=number_id)


def doubt_setting(connection: Connection, account_id: int) -> str:
    """The account's setting for doubt: `hold` or `resend`."""
    return str(_DOUBT_SETTING.scalar(connection, account=account_id))


def doubts(connection: Connection, account_id: int, number_id: int) -> list[Any]:
    """The number's unconfirmed messages that may go out once more: rows of id, origin, attempts, expires_at,
    doubt_until."""
    return _DOUBTS.all(connection, account=account_id, number=number_id)


def settle(connection: Connection, account_id: int, row: Any, *, max_attempts: int, now: float) -> bool:
    """Ends the timeout of one of `doubts`: queued again (True) or held (False)."""
    again = doubt.resend_now(
        doubt_setting(connection, account_id),
        row.origin,
        attempts=row.attempts,
        max_attempts=max_attempts,
        now=now,
        expires_at=row.expires_at,
    )
    change = sa.update(messages).where(
        messages.c.account_id == account_id,
        messages.c.id == row.id,
        messages.c.state == "unconfirmed",
        messages.c.attempts == row.attempts,
        messages.c.doubt_until.is_not(None),
    )
    if not again:
        # a code that is held is over: its text is erased
        kept = sa.case((messages.c.sealed == 1, ""), else_=messages.c.content)
        connection.execute(change.values(doubt_until=None, content=kept))
        return False
    queued = connection.execute(change.values(state="queued", due_at=now, doubt_until=None)).rowcount > 0
    if queued:
        connection.execute(
            sa.insert(attempts).values(
                account_id=account_id,
                message_id=row.id,
                number=row.attempts,
                ended_at=now,
                outcome="resend",
                code="in_doubt",
                reason=stored(NO_RECEIPT()),
            )
        )
    return queued
