"""Stores receipts that arrive before the answer to their send, until that is recorded.

They are stored only for a number that has something in flight. Anybody who knows a number can send it receipts for
arbitrary ids: a number keeps `MOST`, shared evenly between their senders, so that one who sends many displaces only
their own.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.messages.channel_reports import StatusChanged
from kurir.outbox.tables import early_receipts
from kurir.store.statements import Statement
from kurir.store.transaction_end import at_end

MOST = 1_000
"""Maximum receipts of one number after a transaction: far more than its messages in flight can have."""
LEFT = 900
"""Receipts left when there were more: not every new one causes a deletion."""
_LONGEST = 86_400.0
"""Seconds after which the answer to a send does not come any more: it was another message."""
# `+account_id`: the number's index is the short one
_KEEP = Statement("""
INSERT INTO early_receipts (account_id, number_id, remote_id, status, at, stored_at, code, reason, person)
SELECT CAST(:account AS BIGINT), CAST(:number AS BIGINT), CAST(:remote AS TEXT), CAST(:status AS TEXT),
    CAST(:at AS FLOAT), CAST(:now AS FLOAT), CAST(:code AS TEXT), CAST(:reason AS TEXT), CAST(:person AS TEXT)
WHERE EXISTS (SELECT 1 FROM messages WHERE number_id = :number AND +account_id = :account AND state = 'sending')
ON CONFLICT DO NOTHING
""")
_OF_MESSAGE = (
    early_receipts.c.account_id == sa.bindparam("account"),
    early_receipts.c.number_id == sa.bindparam("number"),
    early_receipts.c.remote_id == sa.bindparam("remote"),
)
_TAKE = Statement(
    early_receipts.delete()
    .where(*_OF_MESSAGE)
    .returning(early_receipts.c.status, early_receipts.c.at, early_receipts.c.code, early_receipts.c.reason)
)
_OF_NUMBER = (
    early_receipts.c.account_id == sa.bindparam("account"),
    early_receipts.c.number_id == sa.bindparam("number"),
)
_RANKED = (
    sa.select(
        early_receipts.c.remote_id,
        early_receipts.c.status,
        early_receipts.c.stored_at,
        sa.func.row_number()
        .over(partition_by=early_receipts.c.person, order_by=early_receipts.c.stored_at.desc())
        .label("rank"),
    )
    .where(*_OF_NUMBER)
    .subquery("ranked")
)
"""A number's receipts, each with its rank among those of its sender, newest first."""
_SURPLUS = (
    sa.select(_RANKED.c.remote_id, _RANKED.c.status).order_by(_RANKED.c.rank, _RANKED.c.stored_at.desc()).offset(LEFT)
)
_TOO_MANY = sa.select(early_receipts.c.stored_at).where(*_OF_NUMBER).offset(MOST).limit(1)
_EXPIRE = early_receipts.delete().where(*_OF_NUMBER, early_receipts.c.stored_at < sa.bindparam("before"))
_TRIM = early_receipts.delete().where(
    *_OF_NUMBER, sa.tuple_(early_receipts.c.remote_id, early_receipts.c.status).in_(_SURPLUS)
)


def keep(connection: Connection, event: StatusChanged, now: float) -> None:
    """Stores a receipt without a known message, if the number has something in flight that it may be about."""
    number = {"account": event.account_id, "number": event.number_id}
    kept = _KEEP.change(
        connection,
        remote=event.remote_id,
        status=event.status,
        at=float(event.at),  # SQLite would store anything
        now=now,
        code=event.code,
        reason=event.reason,
        person=event.person,
        **number,
    )
    if kept:
        at_end(connection, ("early_receipts", *number.values()), lambda c: _trim(c, number, now))


def _trim(connection: Connection, number: dict[str, int], now: float) -> None:
    """Removes a number's receipts that are too old, and those beyond `LEFT` when there are more than `MOST`."""
    connection.execute(_EXPIRE, {**number, "before": now - _LONGEST})
    if connection.execute(_TOO_MANY, number).first() is not None:
        connection.execute(_TRIM, number)


def take(connection: Connection, account_id: int, number_id: int, remote_id: str) -> list[StatusChanged]:
    """Returns and deletes the receipts of the number's message `remote_id`."""
    rows = _TAKE.all(connection, account=account_id, number=number_id, remote=remote_id)
    return [
        StatusChanged(account_id, number_id, remote_id, row.status, row.at, code=row.code, reason=row.reason)
        for row in rows
    ]
