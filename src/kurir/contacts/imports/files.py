"""Reads files of people as rows of text: CSV in the encodings and with the separators that Excel writes, and XLSX.

It does not interpret columns. Sizes are bounded before anything is unpacked or held in memory: bytes, lines, columns,
cells and their length, and of an XLSX the XML elements, on which its reader's time depends. `reading_process` bounds
whatever a hostile file causes beyond that.
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

from kurir.kit.file_failures import file_failure
from kurir.reasons import NOTHING, Reason, ReasonedError
from kurir.reasons import imports as reasons

FILE_BYTES = 20_000_000
UNPACKED_BYTES = 64_000_000
"""Maximum size of a file, and of the total that an XLSX (a ZIP archive) states for its unpacked content."""
LINES = 200_000
"""Maximum lines, blank ones included."""
COLUMNS = 64
CELLS = 2_000_000
CELL = 4_000
"""Maximum cells of a file, and maximum characters of a cell; a row with a longer one is reported."""
LINE = 100_000
"""Maximum characters of a line of CSV; a longer one is reported."""
CHARACTERS = 20_000_000
"""Maximum characters of all cells together."""
_MARKS = 8_000_000
"""Maximum tags in an XLSX: a cell takes four, and as many again for its text; the reader takes about 2 µs for each."""
_PARTS = 1_000
_BLOCK = 1 << 20
_RECORD_LINES = 10
"""Maximum lines of one quoted CSV record; beyond that the quote counts as a stray one."""
_DELIMITERS = ",;\t|"
_SAMPLE = 20
_SAMPLE_WIDTH = 10_000
_SEPARATOR_NAMED = re.compile(r'"?sep=([,;\t|])"?', re.IGNORECASE)
"""Excel's notation for the separator, in the first line."""


class ImportRefused(ReasonedError):  # noqa: N818 - a property of the file, not a mistake of the program
    """The file as a whole cannot be imported, for a reason. Nothing was stored."""


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row with its line (counted from 1, as a spreadsheet shows it); `error`: why it could not be read."""

    line: int
    cells: list[str]
    error: Reason = NOTHING


def read_rows(path: Path, limit: int) -> list[Row]:
    """The first `limit` rows of a CSV or XLSX file that are not blank, in order. Raises ImportRefused."""
    data = _bytes_of(path)
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise ImportRefused(reasons.OLD_EXCEL())
    found = _xlsx(data) if data.startswith(b"PK\x03\x04") else _csv(decoded(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles and dates that an import does not look at
        filled = (row for row in found if row.error or any(cell.strip() for cell in row.cells))
        return list(islice(_bounded(filled), limit))


def _bytes_of(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise ImportRefused(reasons.NO_FILE())
        with path.open("rb") as file:
            data = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise ImportRefused(reasons.NOT_READ(error=file_failure(error))) from error
    if len(data) > FILE_BYTES:
        raise ImportRefused(reasons.MANY_BYTES(most=FILE_BYTES))
    return data


def _bounded(rows: Iterator[Row]) -> Iterator[Row]:
    """Yields the rows, those with an overlong cell as errors. Raises ImportRefused when they are too much in total."""
    cells = characters = 0
    for row in rows:
        cells += len(row.cells)
        characters += sum(map(len, row.cells))
        if cells > CELLS:
            raise ImportRefused(reasons.MANY_CELLS(line=row.line, most=CELLS))
        if characters > CHARACTERS:
            raise ImportRefused(reasons.MANY_CHARACTERS(line=row.line, most=CHARACTERS))
        if any(len(cell) > CELL for cell in row.cells):
            column = next(n for n, cell in enumerate(row.cells, 1) if len(cell) > CELL)
            yield Row(row.line, [], reasons.LONG_CELL(column=column, most=CELL))
        else:
            yield row


# -- CSV -----------------------------------------------------------------------------------------------------------


def decoded(data: bytes) -> str:
    """The text of a CSV file: UTF-8 or UTF-16 with or without a byte order mark, else Windows' Western encoding."""
    # Western text in UTF-16 has a zero in every other byte; single zeros mean nothing
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
            raise ImportRefused(reasons.UTF16_DAMAGED()) from error
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _csv(text: str) -> Iterator[Row]:
    text = text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
    if text.count("\n") > LINES:
        raise ImportRefused(reasons.MANY_LINES(most=LINES))
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
        span = 1
        if len(line) > LINE:
            yield Row(at + 1, [], reasons.LONG_LINE(most=LINE))
        elif '"' not in line:
            yield Row(at + 1, line.split(delimiter, COLUMNS + 1))
        else:
            cells, span, error = _quoted(lines, at, delimiter)
            yield Row(at + 1, cells, error)
        at += span


def _quoted(lines: list[str], at: int, delimiter: str) -> tuple[list[str], int, Reason]:
    """A record with quotes: its cells, how many lines it took, and why it could not be read."""
    window = lines[at : at + _RECORD_LINES]
    # each line is read once: only as many as the record's quotes need
    reader = csv.reader((line[:LINE] + "\n" for line in window), delimiter=delimiter, strict=True)
    no_cells: list[str] = []
    try:
        return next(reader, no_cells), reader.line_num, NOTHING
    except csv.Error:
        pass  # the quote is never closed, or a stray one
    try:
        return _parsed(lines[at], delimiter), 1, NOTHING
    except csv.Error:
        return [], 1, reasons.NO_CSV()


def _parsed(line: str, delimiter: str) -> list[str]:
    no_cells: list[str] = []
    return next(csv.reader([line], delimiter=delimiter), no_cells)


# -- XLSX ----------------------------------------------------------------------------------------------------------


def _xlsx(data: bytes) -> Iterator[Row]:
    _check_archive(data)
    try:
        _check_marks(data)
        yield from _sheet(data)
    except ImportRefused:
        raise
    except Exception as error:
        # whatever a damaged or hostile archive makes the reader raise
        raise ImportRefused(reasons.EXCEL_DAMAGED(error=type(error).__name__)) from error


def _sheet(data: bytes) -> Iterator[Row]:
    """The rows of the first sheet."""
    import openpyxl  # noqa: PLC0415 - 8 MB that only the process that reads files needs

    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    with closing(book):
        if not book.worksheets:
            raise ImportRefused(reasons.NO_SHEET())
        sheet: Any = book.worksheets[0]
        sheet.reset_dimensions()  # the size that the file states may be wrong
        for line, values in enumerate(sheet.iter_rows(max_col=COLUMNS + 1, values_only=True), start=1):
            if line > LINES:
                raise ImportRefused(reasons.MANY_SHEET_LINES(most=LINES))
            if any(value is not None for value in values):
                yield Row(line, [_text(value) for value in values])


def _check_archive(data: bytes) -> None:
    """Refuses an archive that would unpack to too much; unpacking stops at the sizes it states."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, RecursionError) as error:
        raise ImportRefused(reasons.EXCEL_CUT()) from error
    if len(parts) > _PARTS or sum(part.file_size for part in parts) > UNPACKED_BYTES:
        raise ImportRefused(reasons.EXCEL_UNPACKED(most=UNPACKED_BYTES))


def _check_marks(data: bytes) -> None:
    """Refuses an archive whose XML would take the reader too long."""
    marks = 0
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for part in archive.infolist():
            with archive.open(part) as file:
                while block := file.read(_BLOCK):
                    marks += block.count(b"<")
                    if marks > _MARKS:
                        raise ImportRefused(reasons.EXCEL_MARKS())


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
