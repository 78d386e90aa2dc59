"""A durable journal of what a linked device has received and the gateway has not stored yet.

The engine acknowledges a message or receipt to WhatsApp, which then forgets it, as soon as its callback returns. So it
is first written to this file; it is deleted when the gateway reports that it is in the database. Entries found when a
device is opened were left by a process that died, and are processed again.

Every entry counts its attempts, so that one that cannot be read, or crashes its process, is quarantined after a few. An
entry whose message is stored but whose media are not stays as a fetch until the media are stored or given up.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal, NamedTuple

Kind = Literal["message", "receipt", "fetch"]

_SCHEMA = """
PRAGMA journal_mode = WAL;
-- outlives the process, not a power cut: waiting for the disk here would let more pile up in the engine, in memory
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS received (id INTEGER PRIMARY KEY AUTOINCREMENT, event BLOB NOT NULL);
"""
_LATER_COLUMNS = {
    "kind": "TEXT NOT NULL DEFAULT 'message'",
    "owner": "TEXT NOT NULL DEFAULT ''",
    "at": "REAL NOT NULL DEFAULT 0",
    "tries": "INTEGER NOT NULL DEFAULT 0",
    "due_at": "REAL NOT NULL DEFAULT 0",
    "chat": "TEXT NOT NULL DEFAULT ''",
    "about": "TEXT NOT NULL DEFAULT ''",
}
"""Columns that files of earlier releases lack."""
_COLUMNS = "id, kind, owner, at, tries, chat, event, about"
_BACKLOG_TIMEOUT = 0.2
"""Seconds to wait for a busy disk when reading the backlog; then the last known figures are returned."""


class Entry(NamedTuple):
    """A received message or receipt as the engine gave it; later entries have larger ids.

    `owner` is the phone number of the pairing it came to ("" while that was not known), `at` unix seconds, `chat` the
    chat under which a fetch's message is stored, `about` what is known of that message without reading `event`.
    """

    id: int
    kind: Kind
    owner: str
    at: float
    tries: int
    chat: str
    event: bytes
    about: str = ""


class Backlog(NamedTuple):
    """Number of entries not stored yet, and since when the oldest waits (unix seconds; None when none does).

    Fetches are not counted: their messages are stored.
    """

    entries: int
    oldest_at: float | None


class Journal:
    """The journal of one device. Its methods may be called from several threads; they raise sqlite3.Error when the disk
    fails. Raises OSError when its folder cannot be created."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
        self._file.executescript(_SCHEMA)
        _add_columns(self._file)
        self._changed = threading.Condition()
        self._open = True
        self._known = _backlog_of(self._file)

    def append(self, kind: Kind, event: bytes, owner: str = "", at: float | None = None) -> None:
        """Appends an entry; when this returns it survives the end of the process. ValueError once closed."""
        with self._changed:
            if not self._open:
                raise ValueError("the journal is closed")
            self._file.execute(
                "INSERT INTO received (kind, event, owner, at) VALUES (?, ?, ?, ?)",
                (kind, event, owner, time.time() if at is None else at),
            )
            self._changed.notify_all()

    def after(self, entry_id: int) -> Entry | None:
        """Waits for the first message or receipt after that one; None once the journal is closed."""
        with self._changed:
            while self._open:
                if (entry := self._one("kind <> 'fetch' AND id > ? ORDER BY id", entry_id)) is not None:
                    return entry
                self._changed.wait()
            return None

    def begin(self, entry_id: int) -> None:
        """Counts an attempt, durably, before it is made."""
        self._change("UPDATE received SET tries = tries + 1 WHERE id = ?", entry_id)

    def succeeded(self, entry_id: int) -> None:
        """The entry could be read and was passed on: later failures are not counted against it."""
        self._change("UPDATE received SET tries = 0 WHERE id = ? AND kind <> 'fetch'", entry_id)

    def belong(self, owner: str) -> None:
        """Assigns entries received before the pairing's phone number was known to that pairing."""
        self._change("UPDATE received SET owner = ? WHERE owner = ''", owner)

    def forget(self, entry_ids: Iterable[int]) -> None:
        """Deletes entries that have been stored."""
        self._change("DELETE FROM received WHERE id IN (SELECT value FROM json_each(?))", json.dumps(list(entry_ids)))

    # -- fetches ---------------------------------------------------------------------------------------------------

    def keep_for_fetch(self, entry_id: int, chat: str, about: str = "") -> None:
        """The message is stored under `chat`; its media are still to be fetched."""
        change = "UPDATE received SET kind = 'fetch', tries = 0, due_at = 0, chat = ?, about = ? WHERE id = ?"
        self._change(change, chat, about, entry_id)

    def due_fetch(self, now: float, besides: Iterable[int]) -> Entry | None:
        """The fetch that is overdue the longest, except those in `besides`; None when there is none, or when closed."""
        with self._changed:
            if not self._open:
                return None
            return self._one(
                "kind = 'fetch' AND due_at <= ? AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY due_at, id",
                now,
                json.dumps(list(besides)),
            )

    def begin_fetch(self, entry_id: int, again_at: float) -> None:
        """Counts an attempt of a fetch, durably, and sets when the next one is due if this one fails."""
        self._change("UPDATE received SET tries = tries + 1, due_at = ? WHERE id = ?", again_at, entry_id)

    def put_off_fetch(self, entry_id: int, again_at: float) -> None:
        """Sets when a fetch is due again that could not be attempted."""
        self._change("UPDATE received SET due_at = ? WHERE id = ?", again_at, entry_id)

    # -- the whole -------------------------------------------------------------------------------------------------

    def backlog(self) -> Backlog:
        """What is not stored yet; the last known figures when the disk does not answer at once."""
        if self._changed.acquire(timeout=_BACKLOG_TIMEOUT):
            try:
                if self._open:
                    self._known = _backlog_of(self._file)
            except sqlite3.Error:
                pass
            finally:
                self._changed.release()
        return self._known

    def close(self) -> None:
        """Ends all waiting. Entries that were not deleted stay in the file."""
        with self._changed:
            self._open = False
            with suppress(sqlite3.Error):
                self._file.close()
            self._changed.notify_all()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _change(self, statement: str, *values: object) -> None:
        with self._changed:
            if self._open:
                self._file.execute(statement, values)

    def _one(self, condition: str, *values: object) -> Entry | None:
        row = self._file.execute(f"SELECT {_COLUMNS} FROM received WHERE {condition} LIMIT 1", values).fetchone()  # noqa: S608 - our own words
        return Entry(*row) if row else None


def read_backlog(path: Path) -> Backlog:
    """The backlog of a journal file that may belong to another process. Raises sqlite3.Error."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0)) as file:
        names = _column_names(file)
        if not names:
            return Backlog(0, None)
        if "kind" not in names:  # of an earlier release
            return Backlog(file.execute("SELECT count(*) FROM received").fetchone()[0], None)
        return _backlog_of(file)


def _backlog_of(file: sqlite3.Connection) -> Backlog:
    entries, oldest_at = file.execute("SELECT count(*), min(at) FROM received WHERE kind <> 'fetch'").fetchone()
    return Backlog(entries, oldest_at)


def _column_names(file: sqlite3.Connection) -> set[str]:
    return {row[1] for row in file.execute("PRAGMA table_info(received)")}


def _add_columns(file: sqlite3.Connection) -> None:
    present = _column_names(file)
    for name, definition in _LATER_COLUMNS.items():
        if name not in present:
            file.execute(f"ALTER TABLE received ADD COLUMN {name} {definition}")
    if "at" not in present:
        file.execute("UPDATE received SET at = ?", (time.time(),))
    file.execute("CREATE INDEX IF NOT EXISTS received_fetches ON received (due_at) WHERE kind = 'fetch'")
    # makes reading the backlog cheap, however long it is
    file.execute("CREATE INDEX IF NOT EXISTS received_waiting ON received (at) WHERE kind <> 'fetch'")
