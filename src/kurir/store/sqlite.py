"""SQLite as the database: one file, one gateway. WAL with synchronous=FULL: a returned commit is on the disk."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, event, exc

from kurir.store.writer import Trouble

_VALUE = ("LIKE or GLOB pattern too complex", "integer overflow", "malformed JSON", "too many SQL variables")
"""Beginnings of error messages that concern a value, not the statement or the file."""
_NO_TEXT = "Could not decode to UTF-8"
_SCHEMA_BROKEN = ("no such table", "no such column", "malformed database schema")
"""Error messages that show damage, because the newest schema has all tables and columns."""
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000")


_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_CLOSED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)


def damaged(file: Path, what: str) -> str:
    """The sentence about a damaged database file."""
    return (
        f"{file} is damaged ({what}): stop the gateway, move the file and {file.name}-wal and -shm beside it away, and "
        "put a backup back with `kurir restore <backup folder>`"
    )


def damage(file: Path) -> str | None:
    """Checks a whole database file; returns the sentence about its damage, None when it is intact."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=10.0)) as connection:
            outcome = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        return damaged(file, str(error))
    except UnicodeDecodeError:  # SQLite's message quotes the file
        return damaged(file, "what is in it is no UTF-8")
    return None if outcome == "ok" else damaged(file, outcome.replace("\n", ", "))


class Sqlite:
    """A database in one file."""

    begin = "BEGIN IMMEDIATE"
    begin_read = "BEGIN"
    begin_schema: tuple[str, ...] = ("PRAGMA foreign_keys = OFF", "BEGIN IMMEDIATE")
    broken_references = "PRAGMA foreign_key_check"
    shared = False

    def __init__(self, path: Path, pool: int) -> None:
        self.name = str(path)
        self.engine = sa.create_engine(
            f"sqlite:///{path}",
            isolation_level="AUTOCOMMIT",
            poolclass=sa.pool.QueuePool,
            pool_size=pool,
            max_overflow=4,
            hide_parameters=True,  # an error in the log must not contain what people wrote
            connect_args={"timeout": 10.0, "check_same_thread": False},
        )
        event.listen(self.engine, "connect", _configure)

    def trouble(self, error: exc.DBAPIError) -> Trouble | None:
        """Classifies an error by its result code (SQLite manual, "Result Codes").

        Disk full, locked, gone and the like may have rolled back the whole transaction. SQLITE_ERROR and SQLITE_TOOBIG
        concern the statement or its values; only the message's text distinguishes those.
        """
        code = getattr(error.orig, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_TOOBIG:
            return "value"
        if code is not None and code & 0xFF in _DAMAGED:
            return "down"
        if not isinstance(error, exc.OperationalError):
            return None
        if code is not None and code & 0xFF != sqlite3.SQLITE_ERROR:
            return "down"
        return "value" if str(error.orig).startswith(_VALUE) else None

    def sentence(self, error: exc.DBAPIError) -> str:
        """An error as a sentence for people: which file, and what to do about it."""
        code = getattr(error.orig, "sqlite_errorcode", None)
        message = str(error.orig)
        if message.startswith(_NO_TEXT):
            return damaged(Path(self.name), "a text in it is no UTF-8")  # SQLite's message would quote the text
        if message.startswith(_SCHEMA_BROKEN) or (code is not None and code & 0xFF in _DAMAGED):
            return damaged(Path(self.name), message)
        if code is not None and code & 0xFF in _CLOSED:
            return f"{self.name}: {message}; it and its folder must belong to the user that runs Kurir"
        return f"{self.name}: {message}"

    def shows_damage(self, error: exc.DBAPIError) -> bool:
        """Whether an error can only result from a damaged file, whatever `trouble` returns for it."""
        return str(error.orig).startswith((_NO_TEXT, *_SCHEMA_BROKEN))

    def ticket(self, connection: Connection) -> str | None:
        """None: a failed commit has stored nothing, so nothing has to be looked up later."""
        return None

    def was_committed(self, connection: Connection, ticket: str) -> bool:
        """Never called."""
        raise AssertionError(ticket)


def _configure(connection: Any, _record: object) -> None:
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
