"""Device session files: their paths, whether they exist, and the evidence that an interrupted send left in them.

The engine keeps one SQLite file per device: `<data_dir>/devices/<number key>.db`, in a folder of mode 0700, because it
holds the keys of the account in clear. Only the gateway process may read it beside the engine: SQLite's locks do not
work between two SQLite libraries in one process.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Protocol

from kurir.messages.channel_reports import Evidence, NeverLeft, Unknown
from kurir.numbers.numbers import Number
from kurir.store.database import DatabaseUnavailable

_FOR_NOW = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
"""Primary result codes of temporary failures: the engine is writing, the disk is full or does not answer."""
_PROBE = bytes(256 * 1024)
_SIDE_FILES = ("", "-journal", "-wal", "-shm")


class Sessions(Protocol):
    """The store of linked devices' sessions: files here, or `server_sessions`. All methods may block."""

    def prepare(self) -> None:
        """Prepares the store. Raises OSError and DatabaseUnavailable."""
        ...

    def usable(self) -> bool:
        """Whether sessions can be read and written now."""
        ...

    def place(self, number: Number) -> str:
        """The name under which the engine opens the number's session."""
        ...

    def exists(self, number: Number) -> bool:
        """Whether there is a session; it may hold a complete or an unfinished pairing."""
        ...

    def forget(self, number: Number) -> None:
        """Deletes the session: the device must be paired again. The engine must not have it open."""
        ...

    def evidence(self, number: Number, secret: bytes) -> Evidence:
        """What a send with this message secret left in the session; call it only when it is over or its host is dead.

        Raises DatabaseUnavailable when the session cannot be read now.
        """
        ...


class FileSessions:
    """The session files below one data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir.absolute() / "devices"

    def prepare(self) -> None:
        """Creates the folder, readable by this user only. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder.chmod(0o700)

    def usable(self) -> bool:
        """Whether the disk accepts a session's next transactions."""
        probe = self._folder / ".probe"
        try:
            with probe.open("wb", buffering=0) as file:
                written = file.write(_PROBE)
                os.fsync(file.fileno())
            probe.unlink()
        except OSError:
            return False
        return written == len(_PROBE)

    def place(self, number: Number) -> str:
        """The file of the number's session."""
        return str(self._path(number))

    def exists(self, number: Number) -> bool:
        """Whether there is a session file; it may hold a complete or an unfinished pairing."""
        return self._path(number).exists()

    def forget(self, number: Number) -> None:
        """Deletes the session: the device must be paired again. The engine must not have it open."""
        path = self._path(number)
        for suffix in _SIDE_FILES:
            path.with_name(path.name + suffix).unlink(missing_ok=True)

    def evidence(self, number: Number, secret: bytes) -> Evidence:
        """What a send with this message secret left in the session; call it only when it is over or its host is dead.

        The engine stores (chat, message id, secret) durably before it writes to the network: no row means that the
        message never left; a row names the id under which it left if it did (neonize 0.5.2, tested). Raises
        DatabaseUnavailable when the session cannot be read now.
        """
        path = self._path(number)
        if not path.exists():
            return Unknown()
        try:
            # rw, not ro: a killed engine may have left a hot journal that has to be rolled back first
            with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=5.0)) as session:
                row = session.execute(
                    "SELECT message_id FROM whatsmeow_message_secrets WHERE key = ? LIMIT 1", (secret,)
                ).fetchone()
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _FOR_NOW:
                raise DatabaseUnavailable(f"the session of {number.key} cannot be read: {error}") from error
            return Unknown()
        return Unknown(remote_id=row[0]) if row else NeverLeft()

    def _path(self, number: Number) -> Path:
        return self._folder / f"{number.key}.db"
