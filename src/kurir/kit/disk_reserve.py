"""Room on a disk that files never touch, so that the database and the journals can go on when files have filled it.

Files come from strangers, and in any number; messages are small. So whoever writes a file asks here before, and again
before each piece.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

DEFAULT = 1 << 30
"""Bytes kept free when the setting says nothing, or …"""
SHARE = 20
"""… one part in so many of the file system, whichever is less."""
PIECE = 1 << 20
"""Bytes of a file that are written between two looks."""
_UNLIMITED = 1 << 60


class DiskNearlyFull(OSError):  # noqa: N818 - a state of the world, not a mistake
    """A file would have touched the reserve."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, "the disk is nearly full")


class DiskReserve:
    """The reserve on the file system of `folder`; `size` in bytes as in the setting KURIR_DISK_RESERVE (0: by default).

    Safe for several threads and processes: it remembers nothing.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._size = size

    def size(self) -> int:
        """Bytes of the reserve on this file system. Raises OSError."""
        return self._reserve(os.statvfs(self._existing()))

    def room(self) -> int:
        """Bytes that files may still take. What the file system does not tell is no reason to refuse: writing will."""
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
