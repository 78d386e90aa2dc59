"""How much of Meta's callbacks is kept as it came. Whoever has an official number can sign what he likes: an account
has `MOST` bytes of it, and what is older goes first, a few at a time.

Of an event's callback only the body goes: by its row Meta's repetition is recognised. Of a callback that was kept for
its own sake the row goes too.
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
"""Bytes of an account's raw callbacks …"""
_LEFT = 0.9
"""… and the share of them that is left when there were more."""
_LOOK_AFTER = 0.05
"""What share of them an account stores until it is looked how many there are: so far it can go beyond."""
_OF_ROW = 250
"""Bytes that a row takes beside its body, roughly: many small ones fill a disk as well."""
_AT_ONCE = 8_000_000
"""Bytes that one transaction removes, roughly."""
_NONE = sa.literal_column("0")
"""Not a parameter: the index that has only rows with a body is found by the words of its condition."""
_OWN = "body:"
"""How the fingerprint of a callback begins that was kept for its own sake."""


def size_of(raw: str) -> int:
    """Bytes that a raw callback takes in the database; 0 for none."""
    return _OF_ROW + len(raw.encode()) if raw else 0


class RawCallbacks:
    """Notes what this process stores and looks after the bound. Whoever stores more than goes away waits here."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._since_look: Counter[int] = Counter()
        self._turns = Turns(1)

    def kept(self, account_id: int, raw: str) -> None:
        """A raw callback was committed."""
        self._since_look[account_id] += size_of(raw)

    async def bound(self, account_id: int) -> None:
        """Removes what the account has too much, if it has stored enough since the last time. Raises
        DatabaseUnavailable."""
        if self._since_look[account_id] < MOST * _LOOK_AFTER:
            return
        async with self._turns.place(account_id):
            stored = self._since_look[account_id]
            if stored < MOST * _LOOK_AFTER:
                return  # another one has looked meanwhile
            await _bound(self._database, account_id)
            self._since_look[account_id] -= stored


async def bound_all(database: Database) -> int:
    """Removes what accounts have too much; returns of how many callbacks. Raises DatabaseUnavailable."""
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
        ids, found = [], 0
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
