"""Bounds the stored raw callbacks of Meta. A tenant with an official number can sign any content: an account keeps at
most `MOST` bytes, and the oldest are removed first, a few at a time.

Of an event's callback only the body is removed: its row identifies Meta's repetition. Of a callback that was stored for
its unsupported content the row is removed too.
"""

from __future__ import annotations

from collections import Counter

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.inbox.tables import callbacks
from kurir.kit.fair_sharing import Turns
from kurir.store.chunked_deletes import removed
from kurir.store.database import Database

MOST = 200_000_000
"""Maximum bytes of an account's raw callbacks."""
_LEFT = 0.9
"""The share of them that is left when there were more."""
_LOOK_AFTER = 0.05
"""The share of them that an account stores between two checks: by so much it can exceed the bound."""
_OF_ROW = 250
"""Approximate bytes of a row beside its body: many small ones fill a disk as well."""
_AT_ONCE = 8_000_000
"""Approximate bytes that one transaction removes."""
_NONE: sa.ColumnClause[int] = sa.literal_column("0", sa.Integer)
"""Not a parameter: the partial index of rows with a body is matched by its condition's text."""
_OWN = "body:"
"""Prefix of the fingerprint of a callback stored for its unsupported content."""


def size_of(raw: str) -> int:
    """Bytes that a raw callback takes in the database; 0 for none."""
    return _OF_ROW + len(raw.encode()) if raw else 0


class RawCallbacks:
    """Counts what this process stores and enforces the bound. Callers that store more than is removed wait."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._since_look: Counter[int] = Counter()
        self._turns = Turns(1)

    def kept(self, account_id: int, raw: str) -> None:
        """Counts a committed raw callback."""
        self._since_look[account_id] += size_of(raw)

    async def bound(self, account_id: int) -> None:
        """Removes the account's excess, if it has stored enough since the last check. Raises DatabaseUnavailable."""
        if self._since_look[account_id] < MOST * _LOOK_AFTER:
            return
        async with self._turns.place(account_id):
            stored = self._since_look[account_id]
            if stored < MOST * _LOOK_AFTER:
                return  # another call has checked meanwhile
            await _bound(self._database, account_id)
            self._since_look[account_id] -= stored


async def bound_all(database: Database) -> int:
    """Removes the excess of all accounts; returns of how many callbacks. Raises DatabaseUnavailable."""
    by_account = sa.select(callbacks.c.account_id).where(callbacks.c.size > _NONE).group_by(callbacks.c.account_id)
    too_much = by_account.having(sa.func.sum(callbacks.c.size) > MOST)
    accounts = await database.read(lambda c: list(c.execute(too_much).scalars()), pool="lists")
    return sum([await _bound(database, account_id) for account_id in accounts])


async def _bound(database: Database, account_id: int) -> int:
    kept = (callbacks.c.account_id == account_id, callbacks.c.size > _NONE)
    sizes = sa.select(sa.func.coalesce(sa.func.sum(callbacks.c.size), 0)).where(*kept)
    size = await database.read(lambda c: c.execute(sizes).scalar_one(), pool="lists", of=account_id)
    if size <= MOST:
        return 0

    def find(
        connection: Connection, cursor: tuple[int, int] | None, limit: int
    ) -> tuple[list[int], tuple[int, int] | None]:
        after, surplus = cursor or (0, int(size - MOST * _LEFT))
        oldest = sa.select(callbacks.c.id, callbacks.c.size).where(*kept, callbacks.c.id > after)
        ids: list[int] = []
        found = 0
        for row in connection.execute(oldest.order_by(callbacks.c.id).limit(limit)):
            ids.append(row.id)
            found += row.size
            if found >= min(surplus, _AT_ONCE):
                break
        return ids, (ids[-1], surplus - found) if ids and found < surplus else None

    def remove(connection: Connection, ids: list[int]) -> int:
        named = callbacks.c.id.in_(ids)
        connection.execute(callbacks.delete().where(named, callbacks.c.fingerprint.startswith(_OWN)))
        connection.execute(callbacks.update().where(named).values(body="", size=0))
        return len(ids)

    return sum([count async for count in removed(database, find, remove)])
