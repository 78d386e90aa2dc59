"""PostgreSQL as the database: for several gateways that share the work, or where a server already exists.

READ COMMITTED, one connection for writing and a few for reading. A returned commit is flushed (`synchronous_commit` is
switched on where it is off). Every wait is bounded: connecting, statements, locks, a server that has stopped answering,
and a session that stalls in the middle of a transaction, whose locks would block the other gateways.
"""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
import structlog
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.string import StrDumperUnknown
from sqlalchemy import Connection, event, exc
from sqlalchemy.engine import URL, make_url

from kurir.store.inserts import NUL_STANDS_FOR
from kurir.store.statements import run
from kurir.store.writer import Trouble

_SESSION = {
    "statement_timeout": "5s",
    "lock_timeout": "4s",
    "idle_in_transaction_session_timeout": "10s",
}
_CONNECTION: dict[str, Any] = {
    "application_name": "kurir",
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
    "options": " ".join(f"-c {name}={value}" for name, value in _SESSION.items()),
}
_ANSWER = 6.0
"""Seconds after which a server that should itself have cancelled a statement counts as gone: the kernel still
acknowledges the connections of a process that hangs or is stopped."""
_FLUSHED = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
_EXPECTED = "expected postgresql://user:password@host:5432/database"
_AGAIN = ("40",)
"""SQLSTATE classes after which the same transaction may succeed: deadlock, serialization failure."""
_BUSY = ("25006", "53", "55", "57", "58", "XX")
"""SQLSTATE classes of temporary failures: read-only standby, no resources (disk full, too many connections), lock not
available, cancelled by a timeout, system and internal errors."""
_VALUE = ("22", "54")
"""SQLSTATE classes that concern a value: data exception (out of range, invalid text), program limit exceeded (an index
row, a pattern, too many arguments)."""

log = structlog.get_logger(__name__)
T = TypeVar("T")


class Postgres:
    """A database on a PostgreSQL server. `url` is validated by `address`."""

    begin = "BEGIN"
    begin_read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    begin_schema: tuple[str, ...] = ("BEGIN", "SET LOCAL statement_timeout = 0", "SET LOCAL lock_timeout = 0")
    broken_references = ""
    shared = True

    def __init__(self, url: str, pool: int) -> None:
        where = address(url)
        self.name = f"PostgreSQL database {where.database} on {where.host or 'the local socket'}"
        self.engine = sa.create_engine(
            where,
            isolation_level="AUTOCOMMIT",
            pool_size=pool,
            max_overflow=4,
            pool_timeout=5.0,
            hide_parameters=True,  # an error in the log must not contain what people wrote
            creator=lambda: connected(where),
        )
        event.listen(self.engine, "connect", _configure)

    def trouble(self, error: exc.DBAPIError) -> Trouble | None:
        """Classifies an error by its SQLSTATE (PostgreSQL manual, appendix A)."""
        state = getattr(error.orig, "sqlstate", None)
        if error.connection_invalidated:
            return "again"
        if state is None:
            return "down" if isinstance(error, exc.OperationalError | exc.InterfaceError) else None
        if state.startswith(_AGAIN):
            return "again"
        if state.startswith(_BUSY):
            return "busy"
        return "value" if state.startswith(_VALUE) else None

    def sentence(self, error: exc.DBAPIError) -> str:
        """An error as a sentence for people."""
        return f"{self.name}: {error.orig}"

    def shows_damage(self, error: exc.DBAPIError) -> bool:
        """Always False: the server reports damage by a code."""
        return False

    def ticket(self, connection: Connection) -> str | None:
        """The id of the current transaction, None when it has changed nothing."""
        return run(connection, "SELECT pg_current_xact_id_if_assigned()::text").fetchone()[0]

    def was_committed(self, connection: Connection, ticket: str) -> bool:
        """Whether the transaction with that id was committed; the server remembers it for a long time.

        Raises DBAPIError, also while the session that ran it has not ended.
        """
        status = connection.exec_driver_sql("SELECT pg_xact_status(%s::text::xid8)", (ticket,)).scalar()
        if status == "in progress":
            raise exc.OperationalError("pg_xact_status", None, psycopg.OperationalError("the commit is under way"))
        return status == "committed"


def address(url: str) -> URL:
    """Parses the address of a PostgreSQL database. Raises ValueError without the address in it: it contains a
    password."""
    try:
        where = make_url(url)
    except (exc.ArgumentError, ValueError):
        where = None
    if where is None or where.drivername not in ("postgresql", "postgres") or not where.database:
        raise ValueError(_EXPECTED)
    try:
        conninfo_to_dict(where.set(drivername="postgresql").render_as_string(hide_password=False))
    except psycopg.Error:
        raise ValueError(_EXPECTED) from None
    return where.set(drivername="postgresql+psycopg")


def listening_address(url: str) -> str:
    """The same database as a libpq address, for a connection that waits for notifications; it detects a dead server."""
    where = address(url).set(drivername="postgresql")
    alive = {"application_name": "kurir-notify", "connect_timeout": "3"}
    alive |= {name: str(value) for name, value in _CONNECTION.items() if name.startswith(("keepalives", "tcp_"))}
    return where.update_query_dict(alive).render_as_string(hide_password=False)


def take_your_time(connection: Connection) -> None:
    """Removes the timeouts of a connection that is used for a migration only."""
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, _Connection)
    driver.timeout = None


def connected(where: URL) -> psycopg.Connection[Any]:
    """Opens a separate connection with bounded waits. Raises psycopg.Error."""
    text = where.set(drivername="postgresql").render_as_string(hide_password=False)
    return _Connection.connect(text, autocommit=True, **_CONNECTION)


class _Connection(psycopg.Connection[Any]):
    """A connection whose waits are bounded."""

    timeout: float | None = _ANSWER

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        try:
            return super().wait(gen, interval, timeout if timeout is not None else self.timeout)
        except psycopg.errors._WaitTimeout as error:  # pyright: ignore[reportPrivateUsage] - has no public name
            self.pgconn.finish()
            raise psycopg.OperationalError("the server does not answer") from error


class _Text(StrDumperUnknown):
    """Dumps texts without the character NUL, which PostgreSQL refuses."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", NUL_STANDS_FOR) if "\0" in obj else obj)


def _configure(connection: psycopg.Connection[Any], _record: object) -> None:
    connection.adapters.register_dumper(str, _Text)
    connection.execute(_FLUSHED)
