"""Maps failures of files and processes of this machine to reasons; the system's English text is for the log."""

from __future__ import annotations

import errno
import sqlite3

from kurir.reasons import Code, Reason
from kurir.reasons import failures as reasons

_NUMBERS: dict[int | None, Code] = {
    errno.ENOENT: reasons.NO_FILE,
    errno.EEXIST: reasons.IN_THE_WAY,
    errno.EISDIR: reasons.IN_THE_WAY,
    errno.ENOTDIR: reasons.IN_THE_WAY,
    errno.EACCES: reasons.NO_PERMISSION,
    errno.EPERM: reasons.NO_PERMISSION,
    errno.ENOSPC: reasons.DISK_FULL,
    errno.EDQUOT: reasons.DISK_FULL,
    errno.EIO: reasons.DISK_FAULTY,
    errno.EROFS: reasons.READ_ONLY,
    errno.EMFILE: reasons.TOO_MANY_OPEN,
    errno.ENFILE: reasons.TOO_MANY_OPEN,
    errno.ENOMEM: reasons.NO_MEMORY,
    errno.EAGAIN: reasons.NO_MEMORY,  # of `fork`: no process or thread can be started now
}
_SQLITE: dict[int | None, Code] = {
    sqlite3.SQLITE_CANTOPEN: reasons.NO_FILE,
    sqlite3.SQLITE_PERM: reasons.NO_PERMISSION,
    sqlite3.SQLITE_READONLY: reasons.READ_ONLY,
    sqlite3.SQLITE_FULL: reasons.DISK_FULL,
    sqlite3.SQLITE_IOERR: reasons.DISK_FAULTY,
    sqlite3.SQLITE_CORRUPT: reasons.DAMAGED,
    sqlite3.SQLITE_NOTADB: reasons.DAMAGED,
    sqlite3.SQLITE_NOMEM: reasons.NO_MEMORY,
    sqlite3.SQLITE_BUSY: reasons.DATABASE_BUSY,
    sqlite3.SQLITE_LOCKED: reasons.DATABASE_BUSY,
}


def file_failure(error: BaseException) -> Reason:
    """Why a file or a process of this machine cannot be used; `error` is usually an OSError or of SQLite."""
    if isinstance(error, sqlite3.Error):
        number = getattr(error, "sqlite_errorcode", None)  # the low byte is the kind, the rest its details
        return _SQLITE.get(number & 0xFF if number is not None else None, reasons.OTHER)()
    if isinstance(error, MemoryError):
        return reasons.NO_MEMORY()
    return _NUMBERS.get(error.errno if isinstance(error, OSError) else None, reasons.OTHER)()
