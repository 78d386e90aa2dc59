"""One gateway per database server, for as long as sender numbers are not yet leased to one gateway each.

Two gateways on one database would both carry the same numbers. A session lock of PostgreSQL says who is first; it ends
with its connection, so a killed gateway leaves nothing behind. (SQLite has the lock of the data folder.)
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog
from sqlalchemy import exc

from kurir.foundation.data_folder import AlreadyRunning
from kurir.foundation.database import Database, DatabaseUnavailable

_TRY = "SELECT pg_try_advisory_lock(hashtext('kurir gateway'))"
_PATIENCE = 10.0
"""Seconds that a killed predecessor's connection may take to be noticed."""
_EVERY = 5.0

log = structlog.get_logger(__name__)


@asynccontextmanager
async def alone_on(database: Database, lost: Callable[[], None]) -> AsyncIterator[None]:
    """Holds the database for this gateway. Does nothing on a database that belongs to one process anyway.

    `lost` is called when the connection broke and another gateway was faster. Raises AlreadyRunning and
    DatabaseUnavailable.
    """
    if not database.shared:
        yield
        return
    lock = _Lock(await asyncio.to_thread(_acquire, database, _PATIENCE))
    stopping = asyncio.Event()
    keeper = asyncio.create_task(_keep(database, lock, stopping, lost), name="alone")
    try:
        yield
    finally:
        # asked to end, not cancelled: a connection that is just being made must not be forgotten
        stopping.set()
        await keeper
        lock.connection.close()


@dataclass
class _Lock:
    """What holds the lock now."""

    connection: psycopg.Connection[Any]


def _acquire(database: Database, patience: float) -> psycopg.Connection[Any]:
    """A connection outside the pool that holds the lock: back in the pool it would hold it for ever."""
    deadline = time.monotonic() + patience
    while True:
        connection = _connect(database)
        try:
            row = connection.execute(_TRY).fetchone()
        except psycopg.Error as error:
            connection.close()
            raise DatabaseUnavailable(f"{database.name}: {error}") from error
        if row is not None and row[0]:
            return connection
        connection.close()
        if time.monotonic() > deadline:
            raise AlreadyRunning(f"another gateway serves the {database.name}: stop it, or use another database")
        time.sleep(0.2)


def _connect(database: Database) -> psycopg.Connection[Any]:
    try:
        pooled = database.engine.raw_connection()
    except exc.DBAPIError as error:
        raise DatabaseUnavailable(f"{database.name}: {error.orig}") from error
    connection = pooled.driver_connection
    pooled.detach()
    assert isinstance(connection, psycopg.Connection)
    connection.rollback()
    connection.autocommit = True  # no transaction stays open that the server would end
    return connection


async def _keep(database: Database, lock: _Lock, stopping: asyncio.Event, lost: Callable[[], None]) -> None:
    """Looks after the lock: a broken connection has lost it, and it is taken again."""
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EVERY):
                await stopping.wait()
        try:
            await asyncio.to_thread(lock.connection.execute, "SELECT 1")
        except psycopg.Error:
            lock.connection.close()
            try:
                lock.connection = await asyncio.to_thread(_acquire, database, 0.0)
            except DatabaseUnavailable:
                continue
            except AlreadyRunning:
                log.critical("another_gateway_took_the_database", database=database.name)
                lost()
                return
