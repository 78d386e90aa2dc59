"""The event log after a restore: ids go on far beyond those that readers outside may have seen since the backup."""

from __future__ import annotations

from sqlalchemy import Connection

GAP = 1_000_000_000
"""Ids left out: more than any gateway gives between a backup and its restore."""

_SQLITE = (
    "INSERT INTO sqlite_sequence (name, seq) SELECT 'events', 0 "
    "WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'events')",
    "UPDATE sqlite_sequence SET seq = seq + :gap WHERE name = 'events'",
)
_POSTGRES = """
SELECT setval(pg_get_serial_sequence('events', 'id'), nextval(pg_get_serial_sequence('events', 'id')) + %(gap)s)
"""


def leave_gap(connection: Connection) -> None:
    """New events get ids after the gap: a cursor from before the restore passes over none of them."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_POSTGRES, {"gap": GAP})
        return
    for statement in _SQLITE:
        connection.exec_driver_sql(statement, {"gap": GAP} if ":gap" in statement else ())
