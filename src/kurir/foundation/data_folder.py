"""The data folder of a gateway: its keys, its database, who serves it now and where.

`gateway.lock` is held by the one gateway that serves the folder (SQLite belongs to exactly one process);
`gateway.json` says where that gateway answers, for the command line and the demo.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.foundation.database import Database
from kurir.foundation.inserts import insert_into
from kurir.foundation.sealing import SealError, Sealing, load_master_key
from kurir.foundation.tables import SCHEMA_VERSION, installation
from kurir.settings import Settings, SettingsError

READY_FILE = "gateway.json"


class AlreadyRunning(RuntimeError):  # noqa: N818 - a state of the world, not a mistake
    """Another gateway serves this data folder."""


class ReadyFile(msgspec.Struct):
    """Where the gateway of a data folder answers."""

    pid: int
    url: str


def open_data_folder(settings: Settings) -> tuple[Database, Sealing]:
    """The folder's database with its newest schema, and its keys; everything is made on first use.

    Raises SettingsError, SealError, DatabaseUnavailable and OSError.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    sealing = Sealing(load_master_key(settings.data_dir))
    database = database_of(settings)
    try:
        renew_schema(database)
        check_key(database, sealing)
    except BaseException:
        database.engine.dispose()
        raise
    return database, sealing


def database_of(settings: Settings) -> Database:
    """The gateway's database, as it is. Raises SettingsError."""
    try:
        return Database(settings.database_url or settings.sqlite_path)
    except ValueError as error:
        raise SettingsError(f"KURIR_DATABASE_URL: {error}, or nothing for SQLite in the data folder") from error


def renew_schema(database: Database) -> None:
    """Brings the database to the newest schema; of several processes, one does it. Raises DatabaseUnavailable."""
    with database.transaction() as connection:
        if _schema_version(connection) == SCHEMA_VERSION:
            return
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('kurir schema'))")
        if _schema_version(connection) != SCHEMA_VERSION:
            from kurir.foundation.migrations import migrate  # noqa: PLC0415 - alembic costs 12 MB for nothing else

            migrate(connection)


def check_key(database: Database, sealing: Sealing) -> None:
    """Makes sure that all gateways on the database have the master key of the first one, which is noted there hashed.

    Raises SealError and DatabaseUnavailable.
    """
    ours = sealing.hash("master key", "installation")
    with database.transaction() as connection:
        noted = sa.select(installation.c.key_check).where(installation.c.id == 1)
        theirs = connection.execute(noted).scalar()
        if theirs is None:  # of two first gateways, one is faster
            first = insert_into(connection, installation).values(id=1, key_check=ours).on_conflict_do_nothing()
            connection.execute(first)
            theirs = connection.execute(noted).scalar_one()
    if theirs != ours:
        raise SealError(
            f"the {database.name} was set up with another master key: copy master.key from the data folder of the "
            "gateway that was first, or set KURIR_MASTER_KEY to what it holds"
        )


def _schema_version(connection: Connection) -> str | None:
    known = sa.inspect(connection).has_table("alembic_version")
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() if known else None


@contextlib.contextmanager
def sole_gateway(data_dir: Path) -> Iterator[None]:
    """Holds the folder's lock. Raises AlreadyRunning at once when another process holds it."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(data_dir / "gateway.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AlreadyRunning(
                f"another gateway serves {data_dir}: stop it, or set KURIR_DATA_DIR to another folder"
            ) from error
        yield
    finally:
        os.close(descriptor)


def write_ready_file(data_dir: Path, ready: ReadyFile) -> None:
    """Tells where the gateway answers."""
    temporary = data_dir / (READY_FILE + ".tmp")
    temporary.write_bytes(msgspec.json.encode(ready))
    temporary.replace(data_dir / READY_FILE)


def read_ready_file(data_dir: Path) -> ReadyFile | None:
    """Where the gateway of that folder answers, or None when none runs."""
    try:
        return msgspec.json.decode((data_dir / READY_FILE).read_bytes(), type=ReadyFile)
    except (OSError, msgspec.MsgspecError):
        return None
