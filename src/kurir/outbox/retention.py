"""Deletes messages that have ended, with their tries, and requests that are not recognized any more.

A message stays, whatever its age, while it is queued, in flight or in doubt, and while its broadcast has messages that
are: the outcomes of all its messages are kept until a broadcast is over.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.kit.ids import first_id_at
from kurir.outbox.tables import attempts, early_receipts, idempotency, messages
from kurir.store.chunked_deletes import removed
from kurir.store.database import Database

OPEN = ("queued", "sending", "unconfirmed")
"""States of messages that are never deleted."""
_ENDED = messages.c.state.not_in(OPEN)
_RUNNING = sa.text("""
SELECT DISTINCT broadcast_id FROM messages WHERE broadcast_id IS NOT NULL AND state IN ('queued','sending')
""")


async def forget_messages(database: Database, before: float) -> int:
    """Removes messages from before that unix time with their tries; returns how many. Raises DatabaseUnavailable."""
    running = await database.read(lambda c: frozenset(c.execute(_RUNNING).scalars()), pool="lists")

    def find(connection: Connection, cursor: int | None, limit: int) -> tuple[list[int], int | None]:
        return _old_messages(connection, before, running, cursor, limit)

    return sum([count async for count in removed(database, find, remove_messages)])


def _old_messages(
    connection: Connection, before: float, running: frozenset[int], cursor: int | None, limit: int
) -> tuple[list[int], int | None]:
    rows = connection.execute(
        # ids begin with the time: this is a range of the primary key
        sa.select(messages.c.id, messages.c.state, messages.c.broadcast_id, messages.c.created_at)
        .where(messages.c.id > (cursor or 0), messages.c.id < first_id_at(before))
        .order_by(messages.c.id)
        .limit(limit)
    ).all()
    old = [
        row.id for row in rows if row.state not in OPEN and row.broadcast_id not in running and row.created_at < before
    ]
    return old, rows[-1].id if len(rows) == limit else None


def remove_messages(connection: Connection, ids: list[int]) -> int:
    """Removes those of the messages that are at their end, with their tries."""
    gone = (
        connection.execute(
            sa.delete(messages)
            .where(messages.c.id.between(ids[0], ids[-1]), messages.c.id.in_(ids), _ENDED)
            .returning(messages.c.id)
        )
        .scalars()
        .all()
    )
    connection.execute(sa.delete(attempts).where(attempts.c.message_id.in_(gone)))
    return len(gone)


async def forget_requests(database: Database, before: float) -> int:
    """Removes what is remembered of requests from before that unix time; returns how many."""

    def find(connection: Connection, _cursor: Any, limit: int) -> tuple[list[tuple[int, str]], bool | None]:
        rows = connection.execute(
            sa.select(idempotency.c.account_id, idempotency.c.key_hash)
            .where(idempotency.c.created_at < before)
            .order_by(idempotency.c.created_at)
            .limit(limit)
        ).all()
        return [(row[0], row[1]) for row in rows], True if len(rows) == limit else None

    def remove(connection: Connection, keys: list[tuple[int, str]]) -> int:
        named = sa.tuple_(idempotency.c.account_id, idempotency.c.key_hash).in_(keys)
        # a key that was taken anew meanwhile is another request
        return connection.execute(sa.delete(idempotency).where(named, idempotency.c.created_at < before)).rowcount

    return sum([count async for count in removed(database, find, remove)])


async def forget_early_receipts(database: Database, before: float) -> int:
    """Removes receipts from before that unix time whose message never became known; returns how many."""
    key = sa.tuple_(early_receipts.c.number_id, early_receipts.c.remote_id, early_receipts.c.status)
    old = early_receipts.c.stored_at < before

    def find(connection: Connection, _cursor: Any, limit: int) -> tuple[list[tuple[int, str, str]], bool | None]:
        columns = (early_receipts.c.number_id, early_receipts.c.remote_id, early_receipts.c.status)
        rows = connection.execute(sa.select(*columns).where(old).limit(limit)).all()
        return [(row[0], row[1], row[2]) for row in rows], True if len(rows) == limit else None

    def remove(connection: Connection, keys: list[tuple[int, str, str]]) -> int:
        return connection.execute(sa.delete(early_receipts).where(key.in_(keys), old)).rowcount

    return sum([count async for count in removed(database, find, remove)])
