"""The program that inspects fetched files for `inspection_process`; only here Pillow and libmagic are loaded.

It imports nothing of the gateway, so that a process takes about 40 MB.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import msgspec

from kurir.kit.limited_process import serve
from kurir.media.inspection import NotUsable, inspect_document, inspect_picture
from kurir.media.inspection_process import (
    DiskFailed,
    Finding,
    InspectDocument,
    InspectPicture,
    Question,
    Unusable,
    Usable,
)

_QUESTION = msgspec.msgpack.Decoder(Question)


def inspect(question: Question) -> Finding:
    """Inspects in the calling process. Raises MemoryError."""
    try:
        match question:
            case InspectPicture(path, url, limit):
                found = inspect_picture(Path(path), url, limit)
            case InspectDocument(path, size, sha256, url, file_name):
                found = inspect_document(Path(path), size, sha256, url, file_name)
    except NotUsable as refusal:
        return Unusable(refusal.code, refusal.reason)
    except OSError as error:
        return DiskFailed(type(error).__name__)
    return Usable(*found)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # about damaged metadata
    serve(lambda job: msgspec.msgpack.encode(inspect(_QUESTION.decode(job))))
