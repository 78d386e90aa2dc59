"""Names that one transaction at a time may hold, over all gateways of one database.

For limits that look at several rows, which no unique index can keep: whoever holds the name counts, and writes, alone.
Nobody waits for a name. A wait would stop the whole group of writes in which it is, and two groups that hold names of
each other's would end in a deadlock; so the caller gives its own write up and comes again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection


def claim(connection: Connection, names: Sequence[str]) -> list[bool]:
    """For each name whether it is this transaction's until it ends; False when another one holds it now.

    What is read after a True sees all that earlier holders have committed. SQLite has one writing transaction at a
    time, to whom every name belongs.
    """
    if connection.dialect.name == "sqlite":
        return [True] * len(names)
    locks = [sa.func.pg_try_advisory_xact_lock(_key(name)).label(f"n{i}") for i, name in enumerate(names)]
    return list(connection.execute(sa.select(*locks)).one())


def _key(name: str) -> int:
    """64 bits, signed. Two names of one key would make each other come again, and nothing worse."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
