"""The program that reads files of people for `reading_process`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from kurir.contacts.imports.files import ImportRefused, read_rows
from kurir.contacts.imports.reading_process import Question, Refusal, Rows
from kurir.kit.limited_process import serve


def answer(job: bytes) -> bytes:
    """The answer to a `Question`."""
    question = msgspec.msgpack.decode(job, type=Question)
    try:
        return msgspec.msgpack.encode(Rows(read_rows(Path(question.path), question.limit)))
    except ImportRefused as refusal:
        return msgspec.msgpack.encode(Refusal(refusal.reason))


if __name__ == "__main__":
    serve(answer)
