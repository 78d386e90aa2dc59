"""The data folder of a gateway: its keys, its database, its lock, and its address.

`gateway.lock` is held by the one gateway that serves the folder (SQLite belongs to exactly one process); `gateway.json`
contains that gateway's address, for the command line and the demo.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.kit.atomic_files import replace_whole
from kurir.kit.sealing import SealError, Sealing, find_master_key, load_master_key
from kurir.settings import Settings, SettingsError
from kurir.store import backups
from kurir.store.database import Database
from kurir.store.inserts import insert_into
from kurir.store.sqlite import damaged
from kurir.store.tables import SCHEMA_VERSION, installation

READY_FILE = "gateway.json"


class AlreadyRunning(RuntimeError):  # noqa: N818 - a state of the world, not a mistake
    """Another gateway serves this data folder."""


class NoData(RuntimeError):  # noqa: N818 - a state of the world, not a mistake
    """There is no data of Kurir where a command expects it."""


class SchemaError(RuntimeError):
    """This program may not open the database as it is; the sentence says what to do."""


class ReadyFile(msgspec.Struct):
    """The address of the gateway that serves a data folder."""

    pid: int
    url: str


def _nobody_listens(_line: str) -> None: ...


def open_data_folder(
    settings: Settings, *, serving: bool = False, create: bool = True, report: Callable[[str], None] = _nobody_listens
) -> tuple[Database, Sealing]:
    """Opens the folder's database, migrated to the newest schema, and its keys; with `create` everything is created on
    first use.

    Otherwise NoData is raised where there is none: a mistyped folder must not become a new, empty gateway. A gateway
    that holds the folder's lock passes `serving`. An older schema is migrated only while no other gateway serves the
    folder, and SQLite's file is copied before; `report` gets a line for each step. Raises SettingsError, SealError,
    DatabaseUnavailable, AlreadyRunning, SchemaError, BackupError and OSError.
    """
    if not create:
        require_data(settings)
    refuse_emptied(settings)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    find_master_key(settings.data_dir)  # a malformed one raises before anything is changed
    database = database_of(settings)
    try:
        _renew(settings, database, serving, report)
        # the tables first: after a killed first start, an empty file beside a key would look like a loss
        sealing = Sealing(load_master_key(settings.data_dir))
        check_key(database, sealing)
    except BaseException:
        database.engine.dispose()
        raise
    return database, sealing


def require_data(settings: Settings) -> None:
    """Raises NoData when no gateway has ever created its data there."""
    where = settings.data_dir
    if settings.database_url:
        there = bool(os.environ.get("KURIR_MASTER_KEY")) or (where / "master.key").exists()
    else:
        there = settings.sqlite_path.exists()
    if not there:
        raise NoData(
            f"there is no Kurir data in {where}: set KURIR_DATA_DIR, or start `kurir serve` or `kurir account create`"
        )


def refuse_emptied(settings: Settings) -> None:
    """Refuses an empty database file where a gateway has been before: SQLite would treat it as a new database.

    Raises SchemaError.
    """
    file = settings.sqlite_path
    if settings.database_url or not file.exists():
        return
    if file.is_dir():
        raise SchemaError(damaged(file, "it is a folder"))
    if not file.stat().st_size and (settings.data_dir / "master.key").exists():
        raise SchemaError(damaged(file, "it is empty"))


def _renew(settings: Settings, database: Database, serving: bool, report: Callable[[str], None]) -> None:
    with database.snapshot() as connection:
        if backups.is_marked(connection):
            raise SchemaError(
                f"{database.name} is a backup, and what it holds as queued may have been sent since: put it back with "
                "`kurir restore`"
            )
        before = schema_version(connection)
    if before == SCHEMA_VERSION:
        return
    in_use = before is not None and not serving  # a gateway of the older version may be working on it
    with sole_gateway(settings.data_dir) if in_use else contextlib.nullcontext():
        renew_schema(database, report, copies=None if database.shared else settings.data_dir)


def database_of(settings: Settings) -> Database:
    """The gateway's database, not migrated. Raises SettingsError."""
    try:
        return Database(settings.database_url or settings.sqlite_path)
    except ValueError as error:
        raise SettingsError(f"KURIR_DATABASE_URL: {error}, or nothing for SQLite in the data folder") from error


def renew_schema(
    database: Database, report: Callable[[str], None] = _nobody_listens, copies: Path | None = None
) -> None:
    """Migrates the database to the newest schema, completely or not at all; of several processes, one does it.

    `copies` is the data folder whose database is copied before it is changed. Raises DatabaseUnavailable, BackupError,
    and SchemaError for a schema that is newer than this program.
    """
    with database.schema_change() as connection:
        if connection.dialect.name == "postgresql":
            from kurir.store.postgres import take_your_time  # noqa: PLC0415 - SQLite does without its driver

            take_your_time(connection)
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('kurir schema'))")
        before = schema_version(connection)
        if before == SCHEMA_VERSION:
            return
        from kurir.store.migrations import migrate, versions  # noqa: PLC0415 - costs 12 MB for nothing else

        if before is not None and not re.fullmatch(r"[0-9]{4}", before):
            raise SchemaError(damaged(Path(database.name), "its schema has no version"))
        if before is not None and before not in versions():
            raise SchemaError(
                f"{database.name} has schema {before}, made by a newer Kurir than this one ({SCHEMA_VERSION}): "
                "install the newer one again, or put back the backup from before the upgrade (docs/operating.md)"
            )
        if copies is not None and before is not None:
            report(f"the database is copied to {_keep_copy(copies)}")
        migrate(connection, report=report)


def check_key(database: Database, sealing: Sealing) -> None:
    """Checks that all gateways on the database have the master key of the first one, whose hash is stored there.

    Raises SealError and DatabaseUnavailable.
    """
    ours = sealing.hash("master key", "installation")
    noted = sa.select(installation.c.key_check).where(installation.c.id == 1)
    with database.snapshot() as connection:
        theirs = connection.execute(noted).scalar()
    if theirs is None:
        with database.transaction() as connection:  # of two concurrent first gateways, one is faster
            first = insert_into(connection, installation).values(id=1, key_check=ours).on_conflict_do_nothing()
            connection.execute(first)
            theirs = connection.execute(noted).scalar_one()
    if theirs != ours:
        raise SealError(
            f"the {database.name} was set up with another master key: copy master.key from the data folder of the "
            "gateway that was first, or set KURIR_MASTER_KEY to what it holds"
        )


def schema_version(connection: Connection) -> str | None:
    """The database's version of the schema, None when it is empty."""
    known = sa.inspect(connection).has_table("alembic_version")  # a missing version means damage, not a new database
    return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()) if known else None


def _keep_copy(data_dir: Path) -> Path:
    """Copies the database before a migration; replaces an older copy of the same name, left by an interrupted
    migration."""
    copy = data_dir / f"before-{SCHEMA_VERSION}"
    shutil.rmtree(copy, ignore_errors=True)
    backups.save(data_dir, copy, time.time())
    return copy


@contextlib.contextmanager
def sole_gateway(data_dir: Path) -> Generator[None]:
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
    """Writes the gateway's address."""
    replace_whole(data_dir / READY_FILE, msgspec.json.encode(ready))


def read_ready_file(data_dir: Path) -> ReadyFile | None:
    """The address of the folder's gateway, or None when none runs."""
    try:
        return msgspec.json.decode((data_dir / READY_FILE).read_bytes(), type=ReadyFile)
    except (OSError, msgspec.MsgspecError):
        return None
