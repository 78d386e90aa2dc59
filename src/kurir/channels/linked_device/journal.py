"""What a linked device has received and the gateway has not stored yet, in a file that outlives every process.

The engine acknowledges a message to WhatsApp, which then forgets it, as soon as it has handed it on. So the first
thing that happens to a message is that it is written here; it leaves when the gateway says that it is in the database.
What is found in the file when a device is opened was left by a process that died, and is read again.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_SCHEMA = """
PRAGMA journal_mode = WAL;
-- outlives the process, not a power cut: waiting for the disk here would let more pile up in the engine, in memory
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS received (id INTEGER PRIMARY KEY AUTOINCREMENT, event BLOB NOT NULL);
"""


class Entry(NamedTuple):
    """A received message, as the engine told it; later entries have larger ids."""

    id: int
    event: bytes


class Journal:
    """The journal of one device. Its methods may be called from several threads; sqlite3.Error when the disk fails, and
    OSError when its folder cannot be made."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
        self._file.executescript(_SCHEMA)
        self._changed = threading.Condition()
        self._open = True

    def append(self, event: bytes) -> None:
        """Writes down a message; when this returns it survives the end of the process."""
        with self._changed:
            self._file.execute("INSERT INTO received (event) VALUES (?)", (event,))
            self._changed.notify_all()

    def after(self, entry_id: int) -> Entry | None:
        """The first message after that one, waited for as long as it takes; None once the journal is closed."""
        with self._changed:
            while self._open:
                if (entry := self._next(entry_id)) is not None:
                    return entry
                self._changed.wait()
            return None

    def forget(self, entry_ids: Iterable[int]) -> None:
        """Lets go of messages that have been stored."""
        with self._changed:
            if self._open:
                ids = json.dumps(list(entry_ids))
                self._file.execute("DELETE FROM received WHERE id IN (SELECT value FROM json_each(?))", (ids,))

    def close(self) -> None:
        """Ends all waiting. Whatever has not been forgotten stays in the file."""
        with self._changed:
            self._open = False
            with suppress(sqlite3.Error):
                self._file.close()
            self._changed.notify_all()

    def _next(self, entry_id: int) -> Entry | None:
        row = self._file.execute(
            "SELECT id, event FROM received WHERE id > ? ORDER BY id LIMIT 1", (entry_id,)
        ).fetchone()
        return Entry(*row) if row else None
