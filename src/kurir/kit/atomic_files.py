"""Small files that are whole or not there at all, whenever the process or the machine ends: keys, tokens, states.

Only their owner may read them.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def replace_whole(path: Path, data: bytes) -> None:
    """Writes a file in the place of whatever was there. Raises OSError, and leaves the old one then."""
    with _written(path, data) as temporary:
        temporary.replace(path)


def place_new(path: Path, data: bytes) -> bool:
    """Writes a new file; False: somebody else has made one meanwhile, which stays. Raises OSError."""
    with _written(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        return True


@contextlib.contextmanager
def _written(path: Path, data: bytes) -> Iterator[Path]:
    """A file of another name in the same folder, flushed to the disk; gone afterwards, unless it was moved."""
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
