"""Backups of a SQLite gateway: taken while it runs, complete, and marked so that none is served by mistake.

A backup is a folder with `kurir.db` (one complete file), `master.key` (unless the key comes from the environment) and
`backup.json`. Device sessions are left out on purpose: their keys advance with every message, and restoring an old
state breaks the conversation. Messages queued at the time of the backup may have been sent since, so its database is
marked (`user_version`), and no gateway opens it before `kurir restore` has handled its queue.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
from sqlalchemy import Connection

from kurir.kit.atomic_files import flush

DATABASE = "kurir.db"
_KEY = "master.key"
_LABEL = "backup.json"
_MARK = 1
_BESIDE = ("", "-wal", "-shm", "-journal")


class BackupError(RuntimeError):
    """A backup cannot be taken or restored; the sentence says why and what to do."""


class Label(msgspec.Struct, frozen=True):
    """Metadata of a backup. `taken_at` in unix seconds."""

    taken_at: float


def save(data_dir: Path, target: Path, taken_at: float) -> int:
    """Copies the folder's database at one consistent moment, also while a gateway serves it; returns its size in bytes.

    `target` is a folder that does not exist or is empty; it is created completely or not at all. Raises BackupError and
    OSError.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BackupError(f"{target} is there already: name a new folder")
    arriving = target.with_name(target.name + ".arriving")
    shutil.rmtree(arriving, ignore_errors=True)
    arriving.mkdir(mode=0o700, parents=True)
    try:
        (arriving / DATABASE).touch(mode=0o600)
        _copy_database(data_dir / DATABASE, arriving / DATABASE)
        if (data_dir / _KEY).exists():
            _write(arriving / _KEY, (data_dir / _KEY).read_bytes())
        _write(arriving / _LABEL, msgspec.json.encode(Label(taken_at)) + b"\n")
        flush(arriving)
        arriving.replace(target)
        flush(target.parent)
    except sqlite3.Error as error:
        raise BackupError(f"{data_dir / DATABASE} cannot be copied: {error}; `kurir doctor` looks at it") from error
    finally:
        shutil.rmtree(arriving, ignore_errors=True)
    return (target / DATABASE).stat().st_size


def unpack(source: Path, data_dir: Path) -> tuple[Path, Label]:
    """Copies a backup into a data folder without a database: its key, and its database under a temporary name.

    Returns the database's path; `settle` gives it its final name. Raises BackupError and OSError.
    """
    try:
        label = msgspec.json.decode((source / _LABEL).read_bytes(), type=Label)
    except (OSError, msgspec.MsgspecError) as error:
        raise BackupError(f"{source} is no backup of Kurir: it has no readable {_LABEL}") from error
    there = [data_dir / (DATABASE + end) for end in _BESIDE if (data_dir / (DATABASE + end)).exists()]
    if there:
        names = ", ".join(path.name for path in there)
        raise BackupError(f"{data_dir} holds a database: move {names} away, or set KURIR_DATA_DIR to another folder")
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (data_dir / _KEY).exists():
        if (source / _KEY).exists():
            _write(data_dir / _KEY, (source / _KEY).read_bytes())
        elif not os.environ.get("KURIR_MASTER_KEY"):
            raise BackupError("the master key is not in the backup: set KURIR_MASTER_KEY as it was then")
    place = data_dir / (DATABASE + ".restoring")
    for end in _BESIDE:
        place.with_name(place.name + end).unlink(missing_ok=True)  # left by an interrupted restore
    place.touch(mode=0o600)
    shutil.copyfile(source / DATABASE, place)
    return place, label


def settle(place: Path, data_dir: Path) -> None:
    """Makes an unpacked database, closed and no longer marked, the folder's own. Raises OSError."""
    flush(place)
    place.replace(data_dir / DATABASE)
    flush(data_dir)


def is_marked(connection: Connection) -> bool:
    """Whether this database is a backup that has not been restored."""
    return connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA user_version").scalar() == _MARK


def unmark(connection: Connection) -> None:
    """Removes the backup's mark, in the transaction that handles its queue."""
    connection.exec_driver_sql("PRAGMA user_version = 0")


def _copy_database(source: Path, target: Path) -> None:
    """Copies with SQLite's online backup: one consistent moment, without blocking writers."""
    if not source.exists():
        raise BackupError(f"{source.parent} holds no database yet")
    with (
        closing(sqlite3.connect(f"file:{source}?mode=rw", uri=True, timeout=10.0)) as old,
        closing(sqlite3.connect(target, isolation_level=None)) as new,
    ):
        old.backup(new)
        new.execute("PRAGMA journal_mode = DELETE")  # one file, without a WAL
        new.execute(f"PRAGMA user_version = {_MARK}")
        if (outcome := new.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
            raise BackupError(f"the copy of {source} is damaged: {outcome}")
    flush(target)


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
