"""Limits and messages of the processes that inspect fetched files: see `kit/limited_process`, `inspection_program`."""

from __future__ import annotations

import msgspec

from kurir.kit.limited_process import Limits
from kurir.media.picture_headers import DECODED_BYTES
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

PROGRAM = "kurir.media.inspection_program"

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
