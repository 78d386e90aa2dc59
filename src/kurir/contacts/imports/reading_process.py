"""Reads files of people in a separate process (`kit/limited_process`), whose program is `reading_program`."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from kurir.contacts.imports.files import ImportRefused, Row
from kurir.kit.limited_process import Confined, Limits, TooCostly, TooSlow
from kurir.reasons import Reason
from kurir.reasons.imports import TOO_COSTLY, TOO_SLOW

LIMITS = Limits(memory=700_000_000, cpu=30, seconds=180.0, answer=150_000_000)
"""Limits for reading one file. The largest accepted file needs about a third of them."""


class Question(msgspec.Struct, frozen=True):
    """Asks for `files.read_rows` of the file `path`."""

    path: str
    limit: int


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """Why the file is refused."""

    reason: Reason


class Rows(msgspec.Struct, frozen=True, tag="rows"):
    """The rows of the file."""

    rows: list[Row]


_ANSWER = msgspec.msgpack.Decoder(Rows | Refusal)


async def read(path: Path, limit: int) -> list[Row]:
    """The first `limit` rows of a file that are not blank, read in a process that ends afterwards.

    Raises ImportRefused.
    """
    question = msgspec.msgpack.encode(Question(os.fspath(path), limit))
    reading = Confined("kurir.contacts.imports.reading_program", 1, LIMITS)
    try:
        answer = _ANSWER.decode(await reading.run(0, question))
    except TooCostly as error:
        raise ImportRefused(TOO_COSTLY()) from error
    except TooSlow as error:
        raise ImportRefused(TOO_SLOW()) from error
    finally:
        await reading.close()
    if isinstance(answer, Refusal):
        raise ImportRefused(answer.reason)
    return answer.rows
