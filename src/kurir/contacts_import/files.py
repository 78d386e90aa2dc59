"""Files of people as rows of text: CSV in the encodings and with the separators that Excel writes, and XLSX.

Nothing here knows what a column means. Sizes are bounded before anything is unpacked or held.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import openpyxl

FILE_BYTES = 20_000_000
UNPACKED_BYTES = 64_000_000
"""Largest file, and largest sum of what an XLSX (a ZIP archive) says it unpacks to."""
LINES = 1_000_000
COLUMNS = 64
_PARTS = 1_000
_RECORD_LINES = 10
"""Lines that one quoted CSV record may span; beyond, the quote is taken for a stray one."""
_DELIMITERS = ",;\t|"
_SAMPLE = 20
_SAMPLE_WIDTH = 10_000
_SEPARATOR_NAMED = re.compile(r'"?sep=([,;\t|])"?', re.IGNORECASE)
"""Excel's own way to name the separator, in the first line."""


class ImportRefused(ValueError):  # noqa: N818 - a verdict on the file, not a mistake of the program
    """The file as a whole cannot be imported; the message says why. Nothing was stored."""


class Row(msgspec.Struct, frozen=True):
    """A row with its line (counted from 1, as a spreadsheet shows it); `error` when it could not be read."""

    line: int
    cells: list[str]
    error: str = ""


def read_rows(path: Path, limit: int) -> list[Row]:
    """The first `limit` rows of a CSV or XLSX file that are not blank, in order. Raises ImportRefused."""
    try:
        size = path.stat().st_size
        if size > FILE_BYTES:
            raise ImportRefused(f"the file has {size:,} bytes; at most {FILE_BYTES:,} are taken")
        data = path.read_bytes()
    except OSError as error:
        raise ImportRefused(f"the file cannot be read: {error.strerror or error}") from error
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise ImportRefused("this is an old Excel file (.xls) or one with a password; save it as .xlsx without one")
    found = _xlsx(data) if data.startswith(b"PK\x03\x04") else _csv(decoded(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles and dates that an import does not look at
        return list(islice((row for row in found if row.error or any(cell.strip() for cell in row.cells)), limit))


# -- CSV -----------------------------------------------------------------------------------------------------------


def decoded(data: bytes) -> str:
    """The text of a CSV file: UTF-8 or UTF-16 with or without a byte order mark, else Windows' Western encoding."""
    # Western text in UTF-16 has a zero in every other byte; a stray zero or two mean nothing
    even, odd = data[:200:2].count(0) * 3 > len(data[:200:2]), data[1:200:2].count(0) * 3 > len(data[1:200:2])
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif even != odd:
        encoding = "utf-16-be" if even else "utf-16-le"
    else:
        encoding = "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            raise ImportRefused("the file looks like UTF-16 text but is damaged") from error
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _csv(text: str) -> Iterator[Row]:
    text = text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
    if text.count("\n") > LINES:
        raise ImportRefused(f"the file has more than {LINES:,} lines")
    lines = text.split("\n")
    named = _SEPARATOR_NAMED.fullmatch(lines[0].strip())
    first = 1 if named else 0
    delimiter = named[1] if named else delimiter_of(lines)
    yield from _records(lines, first, delimiter)


def delimiter_of(lines: list[str]) -> str:
    """The separator that splits most of the first lines into the same number of columns; a comma when none does."""
    sample = [line for line in lines[: 5 * _SAMPLE] if line.strip()][:_SAMPLE]
    best = (0, 0, ",")
    for delimiter in _DELIMITERS:
        widths = Counter(len(_parsed(line[:_SAMPLE_WIDTH], delimiter)) for line in sample)
        for width, count in widths.items():
            if width > 1 and (count, width) > best[:2]:
                best = (count, width, delimiter)
    return best[2]


def _records(lines: list[str], start: int, delimiter: str) -> Iterator[Row]:
    at = start
    while at < len(lines):
        line = lines[at]
        if '"' not in line:
            yield Row(at + 1, line.split(delimiter))
            at += 1
            continue
        cells, span, error = _quoted(lines, at, delimiter)
        yield Row(at + 1, cells, error)
        at += span


def _quoted(lines: list[str], at: int, delimiter: str) -> tuple[list[str], int, str]:
    """A record with quotes: its cells, how many lines it took, and why it could not be read."""
    for span in range(1, min(_RECORD_LINES, len(lines) - at) + 1):
        try:
            record = next(csv.reader(["\n".join(lines[at : at + span])], delimiter=delimiter, strict=True), [])
        except csv.Error:
            continue  # the quote is still open, or it is a stray one
        return record, span, ""
    try:
        return _parsed(lines[at], delimiter), 1, ""
    except csv.Error as error:
        return [], 1, f"not readable as CSV: {error}"


def _parsed(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


# -- XLSX ----------------------------------------------------------------------------------------------------------


def _xlsx(data: bytes) -> Iterator[Row]:
    _check_archive(data)
    try:
        yield from _sheet(data)
    except ImportRefused:
        raise
    except Exception as error:
        # whatever a damaged or hostile archive makes the reader stumble over
        raise ImportRefused(f"the Excel file is damaged ({type(error).__name__})") from error


def _sheet(data: bytes) -> Iterator[Row]:
    """The rows of the first sheet."""
    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    with closing(book):
        if not book.worksheets:
            raise ImportRefused("the Excel file has no sheet")
        sheet: Any = book.worksheets[0]
        sheet.reset_dimensions()  # what the file says about its size may be anything
        for line, values in enumerate(sheet.iter_rows(max_col=COLUMNS + 1, values_only=True), start=1):
            if line > LINES:
                raise ImportRefused(f"the sheet has more than {LINES:,} lines")
            yield Row(line, [_text(value) for value in values])


def _check_archive(data: bytes) -> None:
    """Refuses an archive that would unpack to far more than people need; unpacking stops at the sizes it states."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, RecursionError) as error:
        raise ImportRefused("the Excel file is damaged (not a whole archive)") from error
    if len(parts) > _PARTS or sum(part.file_size for part in parts) > UNPACKED_BYTES:
        raise ImportRefused(f"the Excel file unpacks to more than {UNPACKED_BYTES:,} bytes")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))  # Excel keeps every number as a float
    if isinstance(value, date):
        return value.isoformat()
    return str(value)
