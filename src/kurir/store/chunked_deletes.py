"""Deletes many rows in small chunks, so that other writers never wait long for the single writer.

A reader finds the old rows; the writer only deletes rows by key, and checks there again whether they may be deleted.
After each chunk the writer is left to others for three times as long as the chunk took.
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
"""Returns the keys of up to `n` old rows and the cursor for the next call, None at the end; the first cursor is
None."""

FIRST, LEAST, MOST = 200, 100, 1_000
"""Rows in the first, the smallest and the largest chunk."""
_GOAL = 0.02
"""Target seconds of a chunk with its commit: the next one grows after less than half, and shrinks after more."""
_SHARE = 3.0
_REST = 0.02
"""Minimum seconds between two chunks, also when nothing was found."""


async def removed(
    database: Database,
    find: Find[C, K],
    remove: Callable[[Connection, list[K]], R],
) -> AsyncIterator[R]:
    """Yields what `remove` returned for each chunk, after its commit.

    Raises DatabaseUnavailable; committed chunks stay deleted.
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
    """A `find` for a table whose ids grow with the time in `time_column`: the ids of rows older than `before`.

    It walks the primary key and ends at the first part of the table without old rows.
    """

    def find(connection: Connection, cursor: int | None, limit: int) -> tuple[list[int], int | None]:
        rows = connection.execute(
            sa.select(table.c.id, time_column).where(table.c.id > (cursor or 0)).order_by(table.c.id).limit(limit)
        ).all()
        old = [row[0] for row in rows if row[1] < before]
        return old, rows[-1][0] if old and len(rows) == limit else None

    return find
