"""Files of people that are built to cost: each is refused, or read within its time and memory, with a clear reason.

They are read as the command does it, in a process of its own. What it took is what the kernel counted for it.
"""

from __future__ import annotations

import io
import os
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest
from tests.sentences import english

from kurir.contacts.imports import files, reading_process
from kurir.contacts.imports.columns import RowError, person_of, phone_text, understand
from kurir.contacts.imports.files import ImportRefused, Row
from kurir.kit.limited_process import Limits

SECONDS = 12.0
"""Processor time that reading any file of these may take; a 64 KB file took more than a minute."""
SHARED = (
    b'<Override PartName="/xl/sharedStrings.xml" ContentType="application/vnd.openxmlformats-officedocument.'
    b'spreadsheetml.sharedStrings+xml"/>'
)
MAIN = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def workbook(**parts: bytes) -> bytes:
    """A workbook with some of its parts replaced (names without folder and ending), packed tightly."""
    plain = io.BytesIO()
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(["phone"])
    book.active.append(["081234567890"])
    book.save(plain)
    packed = io.BytesIO()
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        for part in old.infolist():
            body = parts.get(Path(part.filename).stem, old.read(part))
            if "sharedStrings" in parts:
                body = body.replace(b"</Types>", SHARED + b"</Types>")
            new.writestr(part.filename, body)
        if "sharedStrings" in parts:
            new.writestr("xl/sharedStrings.xml", parts["sharedStrings"])
    return packed.getvalue()


def sheet(rows: bytes, before: bytes = b"") -> bytes:
    return b'<worksheet xmlns="' + MAIN + b'">' + before + b"<sheetData>" + rows + b"</sheetData></worksheet>"


def _number(value: bytes, attributes: bytes = b"") -> bytes:
    return b"<row><c" + attributes + b"><v>" + value + b"</v></c></row>"


def strings(items: bytes) -> bytes:
    return b'<sst xmlns="' + MAIN + b'">' + items + b"</sst>"


def styles(body: bytes) -> bytes:
    return b'<styleSheet xmlns="' + MAIN + b'">' + body + b"</styleSheet>"


END = b"</t></is></c></row>"
PHONE = b'<row r="1"><c r="A1" t="inlineStr"><is><t>phone</t></is></c></row>'

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "zip bomb": (lambda: workbook(sheet1=bytes(80_000_000)), "unpacks to more"),
    "millions of strings": (lambda: workbook(sharedStrings=strings(b"<si><t>a</t></si>" * 3_300_000)), "too many"),
    "millions of empty strings": (lambda: workbook(sharedStrings=strings(b"<si/>" * 12_000_000)), "too many"),
    "strings under another prefix": (
        lambda: workbook(
            sharedStrings=b'<x:sst xmlns:x="' + MAIN + b'">' + b"<x:si><x:t>a</x:t></x:si>" * 2_200_000 + b"</x:sst>"
        ),
        "too many",
    ),
    "millions of styles": (lambda: workbook(styles=styles(b"<cellXfs>" + b"<xf/>" * 12_000_000)), "too many"),
    "every row that Excel has, empty": (
        lambda: workbook(sheet1=sheet(PHONE + b"".join(b'<row r="%d"/>' % n for n in range(2, 1_048_577)))),
        "more than 200,000 lines",
    ),
    "a gap of a million rows": (
        lambda: workbook(sheet1=sheet(PHONE + b'<row r="1048576"><c r="A1048576"><v>6281</v></c></row>')),
        "more than 200,000 lines",
    ),
    "rows beyond those that Excel has": (
        lambda: workbook(sheet1=sheet(PHONE + b'<row r="4000000000"><c r="A1"><v>6281</v></c></row>')),
        "more than 200,000 lines|damaged",
    ),
    "cells of 32,767 characters": (
        lambda: workbook(sheet1=sheet((b'<row><c t="inlineStr"><is><t>' + b"a" * 32_767 + END) * 700)),
        r"line \d+: the file has more than 20,000,000 characters",
    ),
    "a file that unpacks slowly": (lambda: workbook(theme1=b"<a/>" * 15_000_000), "too many"),
    "blank lines of csv": (lambda: b"phone\n" + b"\n" * 19_000_000, "more than 200,000 lines"),
    "short lines of csv": (lambda: b'phone\n"\n' * 2_000_000, "more than 200,000 lines"),
    "cells of csv": (lambda: (b"a," * 60 + b"b\n") * 50_000, r"line \d+: the file has more than 2,000,000 cells"),
    "large csv": (lambda: b"phone" + bytes(20_000_000), "more than 20,000,000 bytes"),
    "large characters": (lambda: ("😀" * 39 + "\n").encode() * 120_000, "no column with phone|characters"),
}

READ: dict[str, Callable[[], bytes]] = {
    "one line of csv": lambda: b"0812," * 3_900_000,
    "one line of csv in quotes": lambda: b'"' + b"a" * 19_000_000,
    "one line of quotes": lambda: b'"' * 19_000_000,
    "quotes that never close, in every line": lambda: b"phone\n" + b'"0812,a\n' * 190_000,
    "quotes that never close, in long lines": lambda: b"phone\n" + (b'"' + b"a" * 90_000 + b"\n") * 210,
    "stray quotes": lambda: b"phone\n" + (b'a"b"c,"d"e,' * 9_000 + b"\n") * 200,
    "separators and nothing else": lambda: b"phone\n" + (b"," * 99_000 + b"\n") * 200,
    "nothing but zeros": lambda: bytes(19_000_000),
    "zeros between": lambda: b"p\0h\0o\0n\0e\0\n\0" + b"0\0008\0001\0002\0" * 2_000_000,
    "utf-16 without a mark, from the other end": lambda: ("phone\n" + "081234567890\n" * 90_000).encode("utf-16-be"),
    "carriage returns": lambda: b"phone\r" + b"081234567890\r" * 100_000,
    "a row of 16,384 columns": lambda: workbook(sheet1=sheet(PHONE + b"<row>" + b"<c><v>1</v></c>" * 16_384)),
    "a dimension that lies": lambda: workbook(sheet1=sheet(PHONE, b'<dimension ref="A1:XFD1048576"/>')),
    "a cell in the last column": lambda: workbook(sheet1=sheet(PHONE + b'<row><c r="XFD2"><v>1</v></c></row>')),
    "formulas": lambda: workbook(sheet1=sheet(PHONE + b"<row><c><f>A1&amp;A1</f><v>6281</v></c></row>" * 90_000)),
    "deep xml": lambda: workbook(sheet1=sheet(PHONE + b"<row><c><is>" + b"<r>" * 400_000)),
    "numbers of many digits": lambda: workbook(sheet1=sheet(PHONE + _number(b"9" * 2_000_000))),
    "an exponent": lambda: workbook(sheet1=sheet(PHONE + b"<row><c><v>1e999999999</v></c></row>" * 5_000)),
    "dates beyond the calendar": lambda: workbook(sheet1=sheet(PHONE + _number(b"9999999-99-99", b' t="d"'))),
    "a string that is not there": lambda: workbook(sheet1=sheet(PHONE + b'<row><c t="s"><v>99999999</v></c></row>')),
    "one cell of 50 MB": lambda: workbook(
        sheet1=sheet(PHONE + b'<row><c t="inlineStr"><is><t>' + b"a" * 50_000_000 + b"</t></is></c></row>")
    ),
}


async def taken(folder: Path, content: bytes) -> list[Row]:
    """The rows of a file, or ImportRefused; either within its processor time."""
    file = folder / "people"
    file.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        return await reading_process.read(file, 100_002)
    finally:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < SECONDS


@pytest.mark.parametrize(("bomb", "reason"), REFUSED.values(), ids=list(REFUSED))
async def test_what_would_keep_an_import_busy_is_refused_with_the_reason(
    tmp_path: Path, bomb: Callable[[], bytes], reason: str
) -> None:
    with pytest.raises(ImportRefused, match=reason):
        understand([row.cells for row in (await taken(tmp_path, bomb()))[:50]], "62")


@pytest.mark.parametrize("made", READ.values(), ids=list(READ))
async def test_whatever_else_is_in_a_file_it_is_read_or_refused_in_time(
    tmp_path: Path, made: Callable[[], bytes]
) -> None:
    try:
        rows = await taken(tmp_path, made())
    except ImportRefused as refusal:
        assert 10 < len(str(refusal)) < 300
        assert "split it" not in str(refusal) or "more than" in str(refusal)
        return
    assert all(row.line >= 1 for row in rows)
    assert all(len(cell) <= files.CELL for row in rows for cell in row.cells)
    assert all(len(english(row.error)) < 200 for row in rows)


async def test_what_no_bound_knows_is_ended_by_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the reader looks for brackets in number formats with an expression whose time grows with the square of the length
    monkeypatch.setattr(reading_process, "LIMITS", Limits(400_000_000, cpu=2, seconds=120.0))
    brackets = b'<numFmts><numFmt numFmtId="164" formatCode="' + b"[" * 3_000_000 + b'"/></numFmts>'
    formats = b'<cellXfs><xf numFmtId="164"/></cellXfs>'
    cell = b'<row><c s="0"><v>1</v></c></row>'
    file = tmp_path / "people.xlsx"
    file.write_bytes(workbook(styles=styles(brackets + formats), sheet1=sheet(PHONE + cell)))
    with pytest.raises(ImportRefused, match="cannot be read: that takes"):
        await reading_process.read(file, 100)


async def test_memory_that_no_bound_knows_is_ended_by_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_process, "LIMITS", Limits(10_000_000, cpu=20, seconds=120.0))
    file = tmp_path / "people.csv"
    file.write_bytes(b"phone\n" + b"0812345,x\n" * 199_000)
    with pytest.raises(ImportRefused, match="too much memory"):
        await reading_process.read(file, 100_002)


async def test_a_bad_cell_is_named_by_line_and_column_and_the_rest_is_read(tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("phone,name\n081,a\n082," + "b" * 5_000 + "\n083," + "c," * 60_000 + "\n084,d\n")
    rows = await reading_process.read(file, 10)
    assert [(row.line, english(row.error)) for row in rows] == [
        (1, ""),
        (2, ""),
        (3, "column 2 is longer than 4,000 characters"),
        (4, "the line is longer than 100,000 characters"),
        (5, ""),
    ]


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "gone", "loop"])
async def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "people"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path = Path("/dev/zero")
        case "loop":
            path.symlink_to(path)
    with pytest.raises(ImportRefused, match="cannot be read"):
        await reading_process.read(path, 10)


async def test_a_large_honest_file_is_read(tmp_path: Path) -> None:
    book = openpyxl.Workbook(write_only=True)
    page = book.create_sheet()
    page.append(["nama", "phone", "kota", "tagihan"])
    count = 20_000
    for n in range(count):
        page.append([f"Orang {n}", f"08123{n:07d}", "Bandung", 1000 + n])
    buffer = io.BytesIO()
    book.save(buffer)
    assert len(await taken(tmp_path, buffer.getvalue())) == count + 1


ENDLESS = ("9" * 4_000, "+" * 4_000, "=" + '"' * 3_999, "(" * 4_000, "0" * 3_999 + "x", "1e" + "9" * 3_998)


@pytest.mark.parametrize("text", [*ENDLESS, "\u202e" * 4_000])
def test_a_phone_number_without_end_is_nobody(text: str) -> None:
    columns = understand([["phone"]], "62")
    for _ in range(200):
        with pytest.raises(RowError) as refusal:
            person_of([text], columns, "62")
    assert len(str(refusal.value)) < 200
    for value in (text, text + "\ud800"):
        try:
            phone_text(value)
        except RowError as error:
            assert len(str(error)) < 200
