"""Many rows removed a few at a time, so that nobody who writes meanwhile waits long for the one writer.

What is old is looked for by a reader; the writer only removes rows that were named to it, and asks again there whether
they may go. After each chunk the writer has time for others: three times as long as the chunk took.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.store.database import LONG_WORK, Database

K = TypeVar("K")
C = TypeVar("C")
R = TypeVar("R")
Find = Callable[[Connection, C | None, int], tuple[list[K], C | None]]
"""Gives the keys of at most so many old rows and where to go on, None at the end; the cursor is None at first."""

FIRST, LEAST, MOST = 200, 100, 1_000
"""Rows in the first chunk, and in the smallest and the largest one."""
_GOAL = 0.02
"""Seconds that a chunk may take with its commit; the next is larger after less than half, smaller after more."""
_SHARE = 3.0
_REST = 0.02
"""Seconds of rest at least, also between two looks of which one found nothing."""


async def removed(
    database: Database,
    find: Find[C, K],
    remove: Callable[[Connection, list[K]], R],
) -> AsyncIterator[R]:
    """What `remove` returned for each chunk, after its commit.

    Raises DatabaseUnavailable; what was committed before stays removed.
    """
    cursor: C | None = None
    limit = FIRST
    while True:
        keys, cursor = await database.read(lambda c, at=cursor, most=limit: find(c, at, most), pool="lists")
        took = 0.0
        if keys:
            began = time.monotonic()
            result = await database.write(lambda c, gone=keys: remove(c, gone), timeout=LONG_WORK)
            took = time.monotonic() - began
            if took > _GOAL:
                limit = max(LEAST, limit // 2)
            elif took < _GOAL / 2:
                limit = min(MOST, limit * 2)
            yield result
        if cursor is None:
            return
        await asyncio.sleep(max(_REST, took * _SHARE))


def oldest_first(table: sa.Table, time_column: sa.Column[float], before: float) -> Find[int, int]:
    """`find` for a table whose ids count up with the time in `time_column`: the ids of rows from before that time.

    It goes through the primary key and ends at the first part of the table in which nothing is old.
    """

    def find(connection: Connection, cursor: int | None, limit: int) -> tuple[list[int], int | None]:
        rows = connection.execute(
            sa.select(table.c.id, time_column).where(table.c.id > (cursor or 0)).order_by(table.c.id).limit(limit)
        ).all()
        old = [row[0] for row in rows if row[1] < before]
        return old, rows[-1][0] if old and len(rows) == limit else None

    return find
