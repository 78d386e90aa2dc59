"""The bytes of pictures and documents, kept once each under their SHA-256 in `<data>/media/`."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

_SHA256 = re.compile(r"[0-9a-f]{64}")


class MediaFiles:
    """A folder of files named after the SHA-256 (lower-case hex) of their content."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, data: bytes) -> str:
        """Store `data` durably (flushed before this returns) and return its SHA-256 in hex."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._folder / digest
        if not path.exists():
            partial = self._folder / f"{digest}.{os.getpid()}.part"
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        return digest

    def clear(self) -> None:
        """Delete every file."""
        for path in self._folder.iterdir():
            path.unlink()

    def read(self, digest: str) -> bytes | None:
        """The bytes with this SHA-256 (hex), or None when there are none."""
        if not _SHA256.fullmatch(digest):
            return None
        path = self._folder / digest
        return path.read_bytes() if path.is_file() else None
