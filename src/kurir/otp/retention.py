"""Deletes used and expired codes, and counted checks that no limit uses any more."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.otp.ledger import minute_of
from kurir.otp.tables import otp_checks, otps
from kurir.store.chunked_deletes import oldest_first, removed
from kurir.store.database import Database

_KEY = [otp_checks.c[name] for name in ("account_id", "scope", "digits", "minute", "process")]


async def forget(database: Database, before: float) -> int:
    """Removes codes that expired, and checks counted, before that unix time; returns how many rows.

    An open code stays: it expires later. Raises DatabaseUnavailable.
    """
    old = otp_checks.c.minute < minute_of(before)

    def remove(connection: Connection, ids: list[int]) -> int:
        return connection.execute(sa.delete(otps).where(otps.c.id.in_(ids), otps.c.expires_at < before)).rowcount

    def find_checks(connection: Connection, _cursor: Any, limit: int) -> tuple[list[tuple[Any, ...]], bool | None]:
        rows = [tuple(row) for row in connection.execute(sa.select(*_KEY).where(old).limit(limit))]
        return rows, True if len(rows) == limit else None

    def remove_checks(connection: Connection, keys: list[tuple[Any, ...]]) -> int:
        return connection.execute(sa.delete(otp_checks).where(sa.tuple_(*_KEY).in_(keys), old)).rowcount

    codes = [count async for count in removed(database, oldest_first(otps, otps.c.expires_at, before), remove)]
    return sum(codes + [count async for count in removed(database, find_checks, remove_checks)])
