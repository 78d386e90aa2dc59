"""Disk space that files must leave free, so that the database and the journals can still write on a disk filled by
files.

Files come from strangers in any number; messages are small. Every writer of files checks before a file and before each
piece of it.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

DEFAULT = 1 << 30
"""Bytes kept free by default; `SHARE` may lower it."""
SHARE = 20
"""The default reserve is at most one part in so many of the file system."""
PIECE = 1 << 20
"""Bytes of a file written between two checks."""
_UNLIMITED = 1 << 60


class DiskNearlyFull(OSError):  # noqa: N818 - a state of the world, not a mistake
    """Writing a file would use the reserve."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, "the disk is nearly full")
        self.reason = "the disk is nearly full"


class DiskReserve:
    """The reserve on the file system of `folder`; `size` in bytes as in the setting KURIR_DISK_RESERVE (0: the
    default).

    Stateless, hence safe for several threads and processes.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._size = size

    def size(self) -> int:
        """Bytes of the reserve on this file system. Raises OSError."""
        return self._reserve(os.statvfs(self._existing()))

    def room(self) -> int:
        """Bytes still available for files. Unlimited when the file system does not report its size; the write will fail
        then."""
        try:
            found = os.statvfs(self._existing())
        except OSError:
            return _UNLIMITED
        if not found.f_blocks:  # a file system without a size of its own
            return _UNLIMITED
        return max(0, found.f_bavail * found.f_frsize - self._reserve(found))

    def require(self, size: int) -> None:
        """Raises DiskNearlyFull when there is no room for a file, or a piece of one, of `size` bytes."""
        if self.room() < max(1, size):
            raise DiskNearlyFull

    def _reserve(self, found: os.statvfs_result) -> int:
        return self._size or min(DEFAULT, found.f_blocks * found.f_frsize // SHARE)

    def _existing(self) -> Path:
        return next((one for one in (self._folder, *self._folder.parents) if one.exists()), self._folder)
