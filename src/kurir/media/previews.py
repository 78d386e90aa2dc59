"""The preview of a picture, kept beside its file: made when the file is inspected, so that no sender decodes it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from kurir.messages.content import Preview

SUFFIX = ".preview"
_MOST = 200_000


def place(picture: str | Path) -> Path:
    """Where the preview of the picture file `picture` is kept."""
    return Path(os.fspath(picture) + SUFFIX)


def store(picture: Path, preview: Preview) -> None:
    """Keeps the preview of a picture file. Raises OSError."""
    arriving = Path(f"{place(picture)}-{os.getpid()}")
    arriving.write_bytes(msgspec.msgpack.encode(preview))
    arriving.replace(place(picture))


def load(picture: str | Path) -> Preview | None:
    """The preview of a picture file; None when there is none that can be read."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        if place(picture).stat().st_size <= _MOST:
            return msgspec.msgpack.decode(place(picture).read_bytes(), type=Preview)
    return None
