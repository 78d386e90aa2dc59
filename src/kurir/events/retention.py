"""Deletes old events, except those that are still needed."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.events.tables import events
from kurir.store.chunked_deletes import oldest_first, removed
from kurir.store.database import Database


async def forget(database: Database, before: float, needed: Sequence[sa.ColumnElement[bool]] = ()) -> int:
    """Deletes events from before that unix time, in chunks; returns how many.

    `needed` are conditions on the table `events`: an event that meets one stays, whatever its age.
    """
    gone = events.delete().where(events.c.created_at < before, *(~condition for condition in needed))

    def remove(connection: Connection, ids: list[int]) -> int:
        return connection.execute(gone.where(events.c.id.in_(ids))).rowcount

    return sum([count async for count in removed(database, oldest_first(events, events.c.created_at, before), remove)])
