"""Atomic writes of small files (keys, tokens, states): after a crash a file is complete or absent.

Only their owner may read them. Once a function has returned, the file is on the disk under its name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

_NOT_FLUSHED = {errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EACCES, errno.EPERM}
"""Errors of file systems whose folders cannot be opened or flushed (SMB, some FUSE ones): they flush themselves."""


def replace_whole(path: Path, data: bytes) -> None:
    """Writes a file and replaces the old one. Raises OSError and keeps the old one on failure."""
    with _written(path, data) as temporary:
        temporary.replace(path)
    flush(path.parent)


def place_new(path: Path, data: bytes) -> bool:
    """Writes a new file; False: another process has made one meanwhile, which stays. Raises OSError.

    Where the file system has no hard links (exFAT, SMB), it is written under its final name: only there a crash of the
    machine leaves an incomplete file.
    """
    with _written(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # the error differs between such file systems; a real problem recurs in the next attempt
            if not _created(path, data):
                return False
    flush(path.parent)
    return True


def flush(path: Path) -> None:
    """Waits until a file's bytes, or a folder's entries, are on the disk. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NOT_FLUSHED or not path.is_dir():
            raise


def _created(path: Path, data: bytes) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    try:
        _fill(descriptor, data)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return True


@contextlib.contextmanager
def _written(path: Path, data: bytes) -> Generator[Path]:
    """Yields a temporary file in the same folder, flushed to the disk, and removes it unless it was moved."""
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # mode 0600
    temporary = Path(name)
    try:
        _fill(descriptor, data)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _fill(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
