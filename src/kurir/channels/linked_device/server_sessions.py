"""Device sessions on the PostgreSQL server, so that any gateway that shares it can hold any device.

The engine takes a PostgreSQL address as the name of a session and keeps its tables in the first schema of the search
path (whatsmeow's `sqlstore`; tested with neonize 0.5.2). Each number has its own schema, `device_<id>`: a session is
moved, inspected and deleted as a whole, and no device sees another's keys. They are stored in clear.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL

from kurir.messages.channel_reports import Evidence, NeverLeft, Unknown
from kurir.numbers.numbers import Number
from kurir.store.database import DatabaseUnavailable
from kurir.store.postgres import address, connected

_VERSION_TABLE = "CREATE TABLE IF NOT EXISTS {} (version INTEGER, compat INTEGER)"
"""Created before the engine looks for it: it searches all schemas, finds another device's table, and then misses its
own."""


class ServerSessions:
    """The sessions in one PostgreSQL database. All methods block for a round trip; they raise DatabaseUnavailable."""

    def __init__(self, url: str) -> None:
        self._where: URL = address(url).set(drivername="postgresql")
        self._secured: bool | None = None

    def prepare(self) -> None:
        """Checks whether the server is reached through TLS. Raises DatabaseUnavailable."""
        with self._connected() as connection:
            self._secured = connection.pgconn.ssl_in_use

    def usable(self) -> bool:
        """Whether the server accepts transactions."""
        try:
            with self._connected() as connection:
                connection.execute("SELECT pg_current_xact_id()")
        except DatabaseUnavailable:
            return False
        return True

    def place(self, number: Number) -> str:
        """The address that makes the engine keep the number's session in its schema, which is created."""
        with self._connected() as connection:
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(_schema(number)))
            connection.execute(sql.SQL(_VERSION_TABLE).format(_table(number, "whatsmeow_version")))
        where = self._where.update_query_dict({"search_path": f"device_{number.id}"})
        if "sslmode" not in where.query:  # the engine's driver requires TLS by default
            where = where.update_query_dict({"sslmode": "require" if self._secured else "disable"})
        return where.render_as_string(hide_password=False)

    def exists(self, number: Number) -> bool:
        """Whether there is a session with a pairing. Raises DatabaseUnavailable."""
        with self._connected() as connection:
            return self._has(connection, number, "whatsmeow_device") and _rows(connection, number, "whatsmeow_device")

    def forget(self, number: Number) -> None:
        """Deletes the session: the device must be paired again. The engine must not have it open."""
        with self._connected() as connection:
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(_schema(number)))

    def evidence(self, number: Number, secret: bytes) -> Evidence:
        """What a send with this message secret left in the session; call it only when it is over or its host is dead.

        Raises DatabaseUnavailable when the session cannot be read now.
        """
        with self._connected() as connection:
            if not self._has(connection, number, "whatsmeow_message_secrets"):
                return Unknown()
            ask = sql.SQL("SELECT message_id FROM {} WHERE key = %s LIMIT 1").format(
                _table(number, "whatsmeow_message_secrets")
            )
            row = connection.execute(ask, (secret,)).fetchone()
        return Unknown(remote_id=row[0]) if row else NeverLeft()

    # -- inside ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _connected(self) -> Generator[psycopg.Connection[Any]]:
        try:
            with closing(connected(self._where)) as connection:
                yield connection
        except psycopg.Error as error:
            raise DatabaseUnavailable(f"the device sessions cannot be reached: {error}") from error

    @staticmethod
    def _has(connection: psycopg.Connection[Any], number: Number, table: str) -> bool:
        found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (f"device_{number.id}.{table}",)).fetchone()
        return bool(found and found[0])


def _schema(number: Number) -> sql.Identifier:
    return sql.Identifier(f"device_{number.id}")


def _table(number: Number, name: str) -> sql.Identifier:
    return sql.Identifier(f"device_{number.id}", name)


def _rows(connection: psycopg.Connection[Any], number: Number, table: str) -> bool:
    ask = sql.SQL("SELECT EXISTS (SELECT 1 FROM {})").format(_table(number, table))
    found = connection.execute(ask).fetchone()
    return bool(found and found[0])
