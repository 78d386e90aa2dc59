"""The files of the table `media`: each is stored under its SHA-256, and messages with the same bytes share it.

A file is placed before its row is stored, and removed after the rows that name it are deleted. In between, another
message may be about to name the same file: such a file is in use and is not removed.
"""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

from kurir.kit.atomic_files import flush
from kurir.media import previews
from kurir.messages.content import Preview


class MediaFiles:
    """The media folder of one gateway; only the gateway that holds the data folder's lock changes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._in_use: Counter[Path] = Counter()

    def place(self, arriving: Path, sha256: str, preview: Preview | None = None) -> Path:
        """Moves a flushed file and its preview to their final place and flushes the move; the file is in use until
        `release`.

        Raises OSError.
        """
        place = self.folder / sha256[:2] / sha256
        place.parent.mkdir(mode=0o700, exist_ok=True)
        with self._lock:
            self._in_use[place] += 1
            try:
                arriving.replace(place)
            except OSError:
                self._let_go(place)
                raise
        try:
            if preview is not None:
                previews.store(place, preview)
            flush(place.parent)
        except OSError:
            self.release(place)
            raise
        return place

    def release(self, place: Path) -> None:
        """Ends the use of a placed file: its row is stored, or will not be."""
        with self._lock:
            self._let_go(place)

    def mark(self, paths: set[Path]) -> dict[Path, Mark]:
        """Marks those of the paths that are files not in use, for `remove` after a check that no row names them."""
        with self._lock:
            return {path: mark for path in paths if path not in self._in_use and (mark := _mark(path)) is not None}

    def remove(self, marks: dict[Path, Mark]) -> int:
        """Removes marked files except those placed again since; returns how many. Raises OSError."""
        removed = 0
        for path, mark in marks.items():
            with self._lock:
                if path not in self._in_use and _mark(path) == mark:
                    path.unlink(missing_ok=True)
                    previews.place(path).unlink(missing_ok=True)
                    removed += 1
        return removed

    def older_than(self, before: float) -> set[Path]:
        """Files placed before that unix time."""
        found = (path for path in self.folder.glob("??/*") if not path.suffix)
        return {path for path in found if (mark := _mark(path)) is not None and mark[1] < before}

    def left_behind(self, before: float) -> list[Path]:
        """Leftovers of a process that died, last written before that unix time: half-fetched files, orphaned
        previews."""
        found = [*self.folder.glob("arriving-*"), *self.folder.glob("??/*.*")]
        old = [path for path in found if (mark := _mark(path)) is not None and mark[1] < before]
        return [path for path in old if path.suffix != previews.SUFFIX or not path.with_suffix("").exists()]

    def _let_go(self, place: Path) -> None:
        self._in_use[place] -= 1
        if self._in_use[place] <= 0:
            del self._in_use[place]


Mark = tuple[int, float]
"""Identifies a file: its inode, and when it was written (unix seconds)."""


def _mark(path: Path) -> Mark | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime
