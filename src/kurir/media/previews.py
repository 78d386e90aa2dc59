"""Previews of pictures, stored beside their files when a file is inspected, so that no sender decodes it again."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from kurir.messages.content import Preview

SUFFIX = ".preview"
_MOST = 200_000


def place(picture: str | Path) -> Path:
    """The path of the preview of the picture file `picture`."""
    return Path(os.fspath(picture) + SUFFIX)


def store(picture: Path, preview: Preview) -> None:
    """Stores the preview of a picture file. Raises OSError."""
    arriving = Path(f"{place(picture)}-{os.getpid()}")
    arriving.write_bytes(msgspec.msgpack.encode(preview))
    arriving.replace(place(picture))


def load(picture: str | Path) -> Preview | None:
    """The preview of a picture file; None when there is no readable one."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        if place(picture).stat().st_size <= _MOST:
            return msgspec.msgpack.decode(place(picture).read_bytes(), type=Preview)
    return None
