"""Deletes old received data: messages and their files, service windows, raw callbacks.

Rows are deleted first, a few at a time; a file is deleted after its row's deletion is committed. A file that no row
names (another gateway deleted the row, or this one crashed in between) is deleted once it is as old as those rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.inbox.tables import callbacks, incoming, windows
from kurir.store.chunked_deletes import oldest_first, removed
from kurir.store.database import Database

_SWEPT = 500
_LOOKED_THROUGH = 2_000


class _Media(msgspec.Struct):
    """The path of a received message's file, "" when it was not fetched."""

    path: str = ""


async def forget_messages(database: Database, folder: Path, before: float) -> int:
    """Removes messages stored before that unix time, and their files in `folder`; returns how many messages.

    Raises DatabaseUnavailable and OSError; what is left is removed the next time.
    """
    forgotten, find = 0, oldest_first(incoming, incoming.c.stored_at, before)
    async for stored in removed(database, find, _remove_messages):
        forgotten += len(stored)
        await asyncio.to_thread(_unlink, _files(stored, folder))
    await _sweep(database, folder, before)
    return forgotten


def _remove_messages(connection: Connection, ids: list[int]) -> list[str]:
    gone = sa.delete(incoming).where(incoming.c.id.in_(ids)).returning(incoming.c.media)
    return list(connection.execute(gone).scalars())


async def _sweep(database: Database, folder: Path, before: float) -> None:
    """Removes old files that no message names."""
    orphans = await asyncio.to_thread(_older_than, folder, before)
    if not orphans:
        return

    def part(connection: Connection, after: int) -> list[Any]:
        rows = sa.select(incoming.c.id, incoming.c.media).where(incoming.c.id > after).order_by(incoming.c.id)
        return list(connection.execute(rows.limit(_LOOKED_THROUGH)).all())

    after: int | None = 0
    while after is not None:
        rows = await database.read(lambda c, last=after: part(c, last), pool="lists")
        orphans -= _files((row.media for row in rows), folder)
        after = rows[-1].id if len(rows) == _LOOKED_THROUGH else None
    await asyncio.to_thread(_unlink, orphans)


def _files(media: Iterable[str], folder: Path) -> set[Path]:
    """The files in `folder` that stored media name."""
    paths = {Path(msgspec.json.decode(one, type=_Media).path) for one in media if one}
    return {path for path in paths if path.parent.parent == folder}  # not ours: "" and other gateways' files


def _older_than(folder: Path, before: float) -> set[Path]:
    """Files older than that unix time; they lie in a folder for each number."""
    found: set[Path] = set()
    for path in folder.glob("*/*"):
        try:
            if path.is_file() and path.stat().st_mtime < before:
                found.add(path)
        except OSError:
            continue  # removed meanwhile
    return found


def _unlink(paths: set[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


async def forget_windows(database: Database, before: float) -> int:
    """Removes customer service windows of people who wrote last before that unix time, long after they closed."""
    key = sa.tuple_(windows.c.number_id, windows.c.person)

    def find(connection: Connection, cursor: Any, limit: int) -> tuple[list[tuple[int, str]], Any]:
        rows = sa.select(windows.c.number_id, windows.c.person, windows.c.last_incoming_at)
        if cursor is not None:
            rows = rows.where(key > cursor)
        found = connection.execute(rows.order_by(windows.c.number_id, windows.c.person).limit(_SWEPT)).all()
        old = [(row[0], row[1]) for row in found if row[2] < before]
        return old, tuple(found[-1][:2]) if len(found) == _SWEPT else None

    def remove(connection: Connection, keys: list[tuple[int, str]]) -> int:
        # a person who wrote again meanwhile has an open window
        gone = sa.delete(windows).where(key.in_(keys), windows.c.last_incoming_at < before)
        return connection.execute(gone).rowcount

    return sum([count async for count in removed(database, find, remove)])


async def forget_callbacks(database: Database, before: float) -> int:
    """Removes raw callbacks stored before that unix time; returns how many."""
    find = oldest_first(callbacks, callbacks.c.stored_at, before)

    def remove(connection: Connection, ids: list[int]) -> int:
        return connection.execute(sa.delete(callbacks).where(callbacks.c.id.in_(ids))).rowcount

    return sum([count async for count in removed(database, find, remove)])
