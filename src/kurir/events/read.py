"""Reading the event log: an account's events after a cursor; of those that are kept none is skipped or comes twice.

A cursor is the id of the last event that a reader has seen; 0 stands before the first one.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.events.bodies import EventType
from kurir.events.tables import events


class LoggedEvent(msgspec.Struct, frozen=True):
    """An event as it was appended. `key` (`evt_…`) is its id for receivers, `body` its JSON as it is sent."""

    id: int
    account_id: int
    number_id: int | None
    key: str
    type: EventType
    chat: str
    body: str
    created_at: float


class Page(msgspec.Struct, frozen=True):
    """Events in their order, and the cursor after which the next page begins; `more`: whether it has events already."""

    events: list[LoggedEvent]
    cursor: int
    more: bool


_COLUMNS = [events.c[name] for name in LoggedEvent.__struct_fields__]
_OF_ACCOUNT = events.c.account_id == sa.bindparam("account")
_NEWEST = sa.select(sa.func.max(events.c.id)).where(_OF_ACCOUNT)
_AFTER = (
    sa.select(*_COLUMNS)
    .where(_OF_ACCOUNT, events.c.id > sa.bindparam("cursor"), events.c.id <= sa.bindparam("newest"))
    .order_by(events.c.id)
    .limit(sa.bindparam("limit"))
)
_AFTER_OF_TYPES = _AFTER.where(events.c.type.in_(sa.bindparam("types", expanding=True)))
_GIVEN = {
    "sqlite": "SELECT seq FROM sqlite_sequence WHERE name = 'events'",
    "postgresql": "SELECT pg_sequence_last_value(pg_get_serial_sequence('events', 'id')::regclass)",
}
"""The highest id that was ever given."""


def newest(connection: Connection, account_id: int) -> int:
    """The cursor after the account's newest event."""
    return connection.execute(_NEWEST, {"account": account_id}).scalar() or 0


def is_ahead(connection: Connection, cursor: int) -> bool:
    """Whether no reader can have got this cursor yet: it is beyond every id that was ever given to an event.

    The events with the highest ids may be forgotten, and after a restore ids go on beyond a gap: neither makes an old
    cursor invalid.
    """
    given = connection.exec_driver_sql(_GIVEN[connection.dialect.name]).scalar()
    return cursor > (given or 0)


def after(
    connection: Connection, account_id: int, cursor: int, limit: int = 500, types: Collection[EventType] = ()
) -> Page:
    """The account's events after the cursor, oldest first; `types`: only these (none given: all)."""
    # read first: events appended in between are after the new cursor, whatever their type
    end = max(cursor, newest(connection, account_id))
    wanted = {"account": account_id, "cursor": cursor, "newest": end, "limit": limit}
    statement = _AFTER
    if types:
        statement, wanted = _AFTER_OF_TYPES, {**wanted, "types": list(types)}
    found = [LoggedEvent(*row) for row in connection.execute(statement, wanted)]
    more = len(found) == limit
    return Page(found, found[-1].id if more else end, more)
