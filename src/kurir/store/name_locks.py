"""Named locks that one transaction at a time may hold, over all gateways of one database.

For limits over several rows, which no unique index can enforce: the holder of the name counts and writes alone.
Claiming a name never waits: waiting would block the whole group of writes, and two groups holding each other's names
would deadlock. The caller gives its own write up and retries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection


def claim(connection: Connection, names: Sequence[str]) -> list[bool]:
    """For each name, whether this transaction holds it until it ends; False when another transaction holds it.

    What is read after a True includes everything that earlier holders have committed. SQLite has one writing
    transaction at a time, which holds every name.
    """
    if connection.dialect.name == "sqlite":
        return [True] * len(names)
    locks = [sa.func.pg_try_advisory_xact_lock(_key(name)).label(f"n{i}") for i, name in enumerate(names)]
    return list(connection.execute(sa.select(*locks)).one())


def _key(name: str) -> int:
    """A signed 64-bit key of a name. A collision only makes the two names wait for each other."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
