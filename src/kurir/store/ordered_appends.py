"""Rows whose ids count up in the order in which they become visible, also with several writers on PostgreSQL.

A reader that continues after the highest id it has seen would miss a row whose transaction took its id early and
committed late. So these rows wait until the very end of their transaction: then all of them are inserted by one
statement, on PostgreSQL under locks that are held for this insert and the commit alone. A transaction that takes an id
under a lock therefore sees all lower ids under that lock committed. SQLite has one writer at a time anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection

from kurir.store.inserts import Batch
from kurir.store.statements import run

LOCKS = 256
"""How many locks there are: keys share them, so that one transaction never fills PostgreSQL's lock table."""
LOCK_SPACE = 0x6B75
"""The first number of these locks among PostgreSQL's advisory locks."""
_LOCK = "SELECT pg_advisory_xact_lock(%s, lock) FROM unnest(%s::int[]) AS lock"
_AT_ONCE = 2_000
"""Rows in one statement, so that none grows without limit."""
_OPEN = "kurir ordered appends"

_encode = msgspec.json.Encoder().encode


class OrderedBatch(Batch):
    """A batch whose ids are in order among the rows of one key, which is the first column (an integer)."""


class OrderedAppends:
    """The rows that wait for the end of one transaction."""

    def __init__(self) -> None:
        self._rows: list[tuple[OrderedBatch, int, msgspec.Raw]] = []

    def add(self, batch: OrderedBatch, row: Sequence[Any]) -> None:
        """Adds a row, in the order of the batch's columns. Raises UnicodeEncodeError for invalid text."""
        self._rows.append((batch, row[0], msgspec.Raw(_encode(row))))

    def mark(self) -> int:
        """The position of a savepoint."""
        return len(self._rows)

    def undo(self, mark: int) -> None:
        """Drops the rows after `mark`."""
        del self._rows[mark:]

    def insert(self, connection: Connection) -> frozenset[int]:
        """Inserts what waits, as the last thing before the commit; returns the keys of which there are new rows."""
        end(connection)
        if not self._rows:
            return frozenset()
        rows, self._rows = self._rows, []
        keys = frozenset(key for _, key, _ in rows)
        if connection.dialect.name == "postgresql":
            # in one order everywhere, so that two transactions never wait for each other
            run(connection, _LOCK, (LOCK_SPACE, sorted({key % LOCKS for key in keys})))
        for batch in dict.fromkeys(batch for batch, _, _ in rows):
            mine = [row for its, _, row in rows if its is batch]
            for start in range(0, len(mine), _AT_ONCE):
                batch.insert(connection, mine[start : start + _AT_ONCE])
        return keys


def begin(connection: Connection) -> OrderedAppends:
    """Starts a new transaction's appends; only `Database` and its writer call it."""
    appends = connection.info[_OPEN] = OrderedAppends()
    return appends


def end(connection: Connection) -> None:
    """Refuses further rows in the transaction."""
    connection.info.pop(_OPEN, None)


def append(connection: Connection, batch: OrderedBatch, row: Sequence[Any]) -> None:
    """Adds a row to the end of the current transaction; a savepoint that is rolled back drops its rows."""
    appends: OrderedAppends | None = connection.info.get(_OPEN)
    if appends is None:
        raise RuntimeError("rows in order are appended only within a transaction of Database")
    appends.add(batch, row)
