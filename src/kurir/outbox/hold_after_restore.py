"""Holds the queue of a restored database: nothing of it is sent on a guess.

Messages that were queued or in flight when the backup was taken may have been sent since, and doubts may have been
settled. All are held as `unconfirmed`: a receipt settles one (Meta's contain our id), or a person replays it.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.outbox import record
from kurir.outbox.tables import attempts, messages
from kurir.reasons import stored
from kurir.reasons.messages import RESTORED

CODE = "restored"
REASON = stored(RESTORED())


def hold(connection: Connection, now: float) -> int:
    """Holds everything that a lane would send; returns how many messages. No gateway may serve this database."""
    waiting = messages.c.state.in_(("queued", "sending"))
    # a code that is held is over: its text is erased
    erased = sa.case((messages.c.sealed == 1, ""), else_=messages.c.content)
    connection.execute(
        sa.update(messages).where(messages.c.doubt_until.is_not(None)).values(doubt_until=None, content=erased)
    )
    words = [sa.literal(word) for word in ("held", CODE, REASON)]
    a = attempts.c
    columns = [a.account_id, a.message_id, a.number, a.ended_at, a.outcome, a.code, a.reason]
    kept = sa.select(messages.c.account_id, messages.c.id, messages.c.attempts, sa.literal(now), *words).where(waiting)
    connection.execute(sa.insert(attempts).from_select(columns, kept))
    held = connection.execute(
        sa.update(messages)
        .where(waiting)
        .values(state="unconfirmed", doubt_until=None, error_code=CODE, error_reason=REASON, content=erased)
        .returning(messages.c.account_id, messages.c.id)
    ).all()
    for account_id, message_id in held:
        record.ended(connection, account_id, message_id, "queued", now)
    return len(held)
