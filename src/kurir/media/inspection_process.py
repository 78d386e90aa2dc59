"""The program that inspects fetched files in a separate process (`kit/limited_process`), and its messages.

It imports nothing of the gateway, so that a process takes about 40 MB.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import msgspec

from kurir.kit.limited_process import Limits, serve
from kurir.media.inspection import DECODED_BYTES, NotUsable, inspect_document, inspect_picture
from kurir.messages.content import Preview
from kurir.reasons import Reason


class InspectPicture(msgspec.Struct, frozen=True, tag="picture"):
    """Asks for `inspection.inspect_picture` of the file `path`."""

    path: str
    url: str
    limit: int


class InspectDocument(msgspec.Struct, frozen=True, tag="document"):
    """Asks for `inspection.inspect_document` of the file `path`, whose size and SHA-256 are known."""

    path: str
    size: int
    sha256: str
    url: str
    file_name: str


class Usable(msgspec.Struct, frozen=True, tag="usable"):
    """The inspected file: see `inspection.Found`."""

    mime: str
    name: str
    size: int
    sha256: str
    preview: Preview | None = None


class Unusable(msgspec.Struct, frozen=True, tag="unusable"):
    """Why the file cannot be sent: see `NotUsable`."""

    code: str
    reason: Reason


class DiskFailed(msgspec.Struct, frozen=True, tag="disk"):
    """The file could not be read or written; `kind` is the error's class."""

    kind: str


Question = InspectPicture | InspectDocument
Finding = Usable | Unusable | DiskFailed

_QUESTION = msgspec.msgpack.Decoder(Question)
_FINDING = msgspec.msgpack.Decoder(Finding)
_DECODERS = 96_000_000
"""Bytes that a process may take in addition to a decoded picture: the file, its encoded form, the decoder's tables."""
_CPU, _SECONDS = 10, 30.0
"""Seconds of processor time, and of wall clock, for one file. The costliest picture that the header allows takes about
3."""


def limits(largest_file: int) -> Limits:
    """The limits for inspecting one file."""
    return Limits(memory=DECODED_BYTES + _DECODERS, cpu=_CPU, seconds=_SECONDS, file=largest_file)


def encode(question: Question) -> bytes:
    """Encodes a job for the process."""
    return msgspec.msgpack.encode(question)


def decode(answer: bytes) -> Finding:
    """Decodes the process's answer. Raises msgspec.MsgspecError."""
    return _FINDING.decode(answer)


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
