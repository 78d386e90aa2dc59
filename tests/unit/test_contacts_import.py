"""Importing people: what Excel and people do to files, and files that were broken on the way or on purpose."""

from __future__ import annotations

import asyncio
import io
import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import openpyxl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.harness.properties import examples
from tests.sentences import english
from tests.sqlite import new_database

from kurir.accounts import accounts
from kurir.accounts.accounts import Account
from kurir.contacts import contacts
from kurir.contacts.imports import importing, reading_process
from kurir.contacts.imports.columns import RowError, phone_text
from kurir.contacts.imports.files import Row, decoded, delimiter_of, read_rows
from kurir.contacts.imports.importing import ImportRefused, ImportReport, Problem, import_file
from kurir.reasons.imports import MANY_COLUMNS, NO_PHONE
from kurir.store.database import Database


@pytest.fixture(autouse=True, scope="module")
def in_this_process() -> Iterator[None]:
    """Files are read here: hundreds of processes would take minutes. `tests/hostile` reads in a process."""

    async def read(path: Path, limit: int) -> list[Row]:
        return await asyncio.to_thread(read_rows, path, limit)

    with patch.object(reading_process, "read", read):
        yield


@dataclass
class Harness:
    """An account on a real database, and a folder for its files."""

    database: Database
    account: Account
    folder: Path

    async def take(self, content: bytes | str, list_name: str = "Impor") -> ImportReport:
        file = self.folder / "people"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return await import_file(self.database, self.account, file, list_name)

    async def people(self, report: ImportReport) -> dict[str, tuple[str, dict[str, str]]]:
        contact = await self.database.read(lambda c: contacts.by_key(c, self.account.id, report.contact_key))
        assert contact is not None
        assert contact.type == "import"
        found = await self.database.read(
            lambda c: contacts.audience_after(c, self.account.id, contact.id, limit=10_000)
        )
        return {person.phone: (person.name, person.custom_fields) for person in found}


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    database = Database(new_database(tmp_path / "kurir.db"))
    await database.start()
    account = await database.write(lambda c: accounts.create(c, name="Toko", email="toko@example.com"))
    yield Harness(database, account, tmp_path)
    await database.close()


def workbook(*rows: tuple[Any, ...]) -> bytes:
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in rows:
        book.active.append(row)
    packed = io.BytesIO()
    book.save(packed)
    return packed.getvalue()


JONO, SRI = "6281234567890", "6281299990000"
PLAIN = "nama,nomor,kota\nJono,081234567890,Bogor\nSri,+62 812-9999-0000,\n"


# -- what is in the rows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["nama,nomor", "Name,Phone", "NAMA LENGKAP,No. HP", "name,wa_number", "nama,no_hp"])
async def test_headers_are_known_in_both_languages(harness: Harness, header: str) -> None:
    report = await harness.take(f"{header}\nJono,081234567890\n")
    assert (report.rows, report.stored, report.problems) == (1, 1, [])
    assert await harness.people(report) == {JONO: ("Jono", {})}


async def test_columns_may_stand_in_any_order_and_others_become_custom_fields(harness: Harness) -> None:
    report = await harness.take("kota,No Telepon,usia,,Nama\nBogor,081234567890,30,x,Jono\n,0812 9999 0000,,,Sri\n")
    assert await harness.people(report) == {
        JONO: ("Jono", {"kota": "Bogor", "usia": "30", "column_4": "x"}),
        SRI: ("Sri", {}),
    }


async def test_a_row_number_column_is_not_taken_for_the_phone(harness: Harness) -> None:
    report = await harness.take("nomor,nama,whatsapp\n1,Jono,081234567890\n2,Sri,081299990000\n")
    assert await harness.people(report) == {JONO: ("Jono", {"nomor": "1"}), SRI: ("Sri", {"nomor": "2"})}


async def test_without_a_header_phone_and_name_are_found(harness: Harness) -> None:
    report = await harness.take("1;Jono;081234567890;Bogor\n2;Sri;081299990000;Depok\n")
    assert (await harness.people(report))[SRI] == ("Sri", {"column_1": "2", "column_4": "Depok"})


async def test_a_header_of_unknown_words_is_still_a_header(harness: Harness) -> None:
    report = await harness.take("Siapa,Kontak\nJono,081234567890\nSri,081299990000\n")
    assert await harness.people(report) == {JONO: ("Jono", {}), SRI: ("Sri", {})}


async def test_a_bare_column_of_phone_numbers_is_enough(harness: Harness) -> None:
    report = await harness.take("081234567890\r\n\r\n081299990000\r\n")
    assert list(await harness.people(report)) == [JONO, SRI]


async def test_every_bad_row_is_reported_with_its_line_and_the_good_ones_are_stored(harness: Harness) -> None:
    report = await harness.take(
        "nama,phone,catatan\nJono,081234567890,\n\nTanpa nomor,,\nSalah,abc,\nPendek,0812,\n"
        f'Excel,"8,12E+11",\n{"x" * 201},0811111111,\nPanjang,0811111111,{"y" * 501}\nSri,081299990000,ok\n'
    )
    assert (report.rows, report.stored) == (8, 2)
    assert [problem.line for problem in report.problems] == [4, 5, 6, 7, 8, 9]
    reasons = [english(problem.reason) for problem in report.problems]
    assert reasons[0] == "no phone number"
    assert "`abc`: expected a phone number" in reasons[1]
    assert "too short" in reasons[2]
    assert "format the column as text" in reasons[3]
    assert "name is longer than 200" in reasons[4]
    assert "`catatan` is longer than 500" in reasons[5]
    assert list(await harness.people(report)) == [JONO, SRI]


async def test_duplicates_are_merged_within_a_file_and_with_the_list_of_an_earlier_import(harness: Harness) -> None:
    first = await harness.take("nama,hp,kota\nJono,081234567890,Bogor\n,+6281234567890,\nJono S,6281234567890,\n")
    assert (first.stored, first.merged) == (1, 2)
    assert await harness.people(first) == {JONO: ("Jono S", {"kota": "Bogor"})}
    again = await harness.take("nama,hp,usia\n,081234567890,30\nSri,081299990000,\n")
    assert (again.contact_key, again.stored, again.merged) == (first.contact_key, 1, 1)
    assert await harness.people(again) == {JONO: ("Jono S", {"kota": "Bogor", "usia": "30"}), SRI: ("Sri", {})}
    elsewhere = await harness.take("hp\n081234567890\n", "Lain")
    assert elsewhere.contact_key != first.contact_key


async def test_a_file_without_a_good_row_makes_no_list(harness: Harness) -> None:
    report = await harness.take("phone\nabc\n")
    assert (report.contact_key, report.stored) == ("", 0)
    assert [problem.line for problem in report.problems] == [2]
    page = await harness.database.read(lambda c: contacts.lists(c, harness.account.id, contacts.Query()))
    assert page.total == 0


async def test_numbers_without_country_code_get_the_accounts(harness: Harness) -> None:
    harness.account = await harness.database.write(
        lambda c: accounts.create(c, name="SG", email="sg@example.com", country_code="65")
    )
    report = await harness.take("phone\n81234567\n+62 81234567890\n")
    assert list(await harness.people(report)) == ["6581234567", JONO]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("'081234567890", "081234567890"),
        ("’081234567890", "081234567890"),
        ('="081234567890"', "081234567890"),
        ("81234567890.0", "81234567890"),
        ("81234567890,00", "81234567890"),
        ("6.28123456789E+12", None),
        ("6.281234567890E+12", "6281234567890"),
        ("6,281234567890E+12", "6281234567890"),
        ("6.28123456789000E+12", "6281234567890"),
        ("8.12345E+11", None),
        ("8E+11", None),
        ("8.1E+999", None),
        (" +62 812-3456-7890 ", "+62 812-3456-7890"),
    ],
)
def test_what_a_spreadsheet_does_to_a_phone_number_is_undone_or_refused(written: str, meant: str | None) -> None:
    if meant is None:
        with pytest.raises(RowError):
            phone_text(written)
    else:
        assert phone_text(written) == meant


# -- CSV -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
async def test_every_encoding_separator_and_line_ending_reads_the_same(
    harness: Harness, delimiter: str, encoding: str, ending: str
) -> None:
    text = "nama,nomor,kota\nJosé,081234567890,Bogor\nSri,081299990000,\n"
    report = await harness.take(text.replace(",", delimiter).replace("\n", ending).encode(encoding))
    assert await harness.people(report) == {JONO: ("José", {"kota": "Bogor"}), SRI: ("Sri", {})}


def test_a_damaged_utf_16_file_is_refused_and_odd_bytes_are_western() -> None:
    with pytest.raises(ImportRefused):
        decoded(b"\xff\xfe\x00\xd8\x41")
    assert decoded(b"Jos\xe9") == "José"
    assert decoded(b"\x81\xe9") == "\x81é"
    assert decoded(b"a\0b,c" * 40).startswith("a\0b")


async def test_excels_separator_line_is_obeyed(harness: Harness) -> None:
    report = await harness.take("sep=;\nnama;nomor\nJono, Tn;081234567890\n")
    assert await harness.people(report) == {JONO: ("Jono, Tn", {})}


async def test_quotes_hold_separators_and_lines_together(harness: Harness) -> None:
    report = await harness.take('nama,nomor,alamat\n"Jono, ""Tn""",081234567890,"Jl. A\nBogor"\nSri,081299990000,x\n')
    assert await harness.people(report) == {
        JONO: ('Jono, "Tn"', {"alamat": "Jl. A Bogor"}),
        SRI: ("Sri", {"alamat": "x"}),
    }


async def test_a_quote_that_is_never_closed_costs_its_own_row_only(harness: Harness) -> None:
    rest = "".join(f"Orang {n},08123456{n:04d}\n" for n in range(30))
    report = await harness.take(f'nama,nomor\n"Jono,081234567890\n{rest}Toko 12",081299990000\n')
    assert report.problems == [Problem(2, NO_PHONE())]
    people = await harness.people(report)
    assert len(people) == 31
    assert people[SRI][0] == 'Toko 12"'


def test_the_separator_is_the_one_most_lines_agree_on() -> None:
    assert delimiter_of(["nama;nomor", "Jono, Tn;0812", "Sri, Ny;0813"]) == ";"
    assert delimiter_of(["0812", "0813"]) == ","
    assert delimiter_of([]) == ","


# -- XLSX ------------------------------------------------------------------------------------------------------------


async def test_an_excel_file_with_numbers_as_numbers(harness: Harness) -> None:
    report = await harness.take(
        workbook(
            ("Nama", "WhatsApp", "Usia", "Aktif"),
            ("Jono", 81234567890, 30, True),
            (None, None, None, None),
            ("Sri", 6.281299990000e12, 2.5, None),
            ("Salah", 12.5, None, None),
        )
    )
    assert await harness.people(report) == {JONO: ("Jono", {"Usia": "30", "Aktif": "1"}), SRI: ("Sri", {"Usia": "2.5"})}
    assert [problem.line for problem in report.problems] == [5]


@pytest.mark.parametrize("claim", [b"A1:XFD1048576", b"A1:A1", b"B7:C9"])
async def test_an_excel_file_that_lies_about_its_size_is_read_as_it_is(harness: Harness, claim: bytes) -> None:
    lying = _rewritten(
        workbook(("nama", "phone"), ("Jono", "081234567890")),
        "xl/worksheets/sheet1.xml",
        lambda xml: xml.replace(b'<dimension ref="A1:B2"', b'<dimension ref="' + claim + b'"'),
    )
    report = await harness.take(lying)
    assert await harness.people(report) == {JONO: ("Jono", {})}


async def test_a_row_wider_than_people_need_is_reported(harness: Harness) -> None:
    report = await harness.take(workbook(("phone",), ("081234567890", *["x"] * 70), ("081299990000",)))
    assert report.problems == [Problem(2, MANY_COLUMNS(most=64))]
    assert report.stored == 1


def _rewritten(packed: bytes, name: str, change: Any) -> bytes:
    """The archive with one part changed."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(packed)) as before, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as after:
        for part in before.infolist():
            content = before.read(part)
            after.writestr(part.filename, change(content) if part.filename == name else content)
    return changed.getvalue()


def _bomb() -> bytes:
    return _rewritten(
        workbook(("phone",), ("081234567890",)), "xl/worksheets/sheet1.xml", lambda xml: xml + b" " * 70_000_000
    )


def _laughs(xml: bytes) -> bytes:
    entities = b'<!ENTITY a0 "ha">' + b"".join(
        b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 12)
    )
    return (
        b"<!DOCTYPE x [" + entities + b"]>" + xml.replace(b"<sheetData>", b"<sheetData><row><c><v>&a11;</v></c></row>")
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\n\n , \n", "empty"),
        (b"nama,kota\nJono,Bogor\n", "no column with phone numbers"),
        (b"\xd0\xcf\x11\xe0" + bytes(600), "old Excel file"),
        (b"PK\x03\x04 is not much of an archive", "damaged"),
        (b"\n" * 1_000_002, "lines"),
        (_bomb, "unpacks to more than"),
        (lambda: _rewritten(workbook(("phone",)), "xl/workbook.xml", lambda xml: xml[:100]), "damaged"),
        (lambda: _rewritten(workbook(("phone",)), "xl/worksheets/sheet1.xml", _laughs), "damaged"),
        (lambda: b"x" * 20_000_001, "bytes"),
    ],
    ids=["nothing", "blank", "no-phones", "xls", "not-a-zip", "lines", "bomb", "cut-xml", "entities", "big"],
)
async def test_a_file_that_cannot_be_imported_is_refused_with_the_reason(
    harness: Harness, content: Any, reason: str
) -> None:
    with pytest.raises(ImportRefused, match=reason):
        await harness.take(content if isinstance(content, bytes) else content())


async def test_a_file_that_is_not_there_is_refused(harness: Harness) -> None:
    with pytest.raises(ImportRefused, match="cannot be read"):
        await import_file(harness.database, harness.account, harness.folder / "gone.csv", "x")
    with pytest.raises(ImportRefused, match="cannot be read"):
        await import_file(harness.database, harness.account, harness.folder, "x")


async def test_more_rows_than_allowed_are_refused_before_anything_is_stored(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "ROWS", 3)
    rows = [f"08123456789{n}\n" for n in range(4)]
    assert (await harness.take("phone\n" + "".join(rows[:3]), "a")).stored == 3
    with pytest.raises(ImportRefused, match="more than 3 rows"):
        await harness.take("phone\n" + "".join(rows), "b")
    with pytest.raises(ImportRefused, match="more than 3 rows"):
        await harness.take("".join(rows), "b")
    page = await harness.database.read(lambda c: contacts.lists(c, harness.account.id, contacts.Query()))
    assert page.total == 1


async def test_a_long_file_is_stored_in_chunks_and_says_how_far_it_is(harness: Harness) -> None:
    file = harness.folder / "long.csv"
    file.write_text("phone\n" + "".join(f"08123{n:07d}\n" for n in range(4_500)))
    steps: list[int] = []
    report = await import_file(harness.database, harness.account, file, "Panjang", steps.append)
    assert (report.rows, report.stored, report.problems) == (4_500, 4_500, [])
    assert steps == [2_000, 4_000, 4_500]
    assert len(await harness.people(report)) == 4_500


# -- files that were broken ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lasting() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _imported(folder: Path, content: bytes) -> ImportReport | None:
    """Imports into a fresh database; None when the file was refused."""

    async def work() -> ImportReport | None:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            database = Database(new_database(Path(place) / "kurir.db"))
            await database.start()
            try:
                account = await database.write(lambda c: accounts.create(c, name="Toko", email="toko@example.com"))
                return await Harness(database, account, Path(place)).take(content)
            except ImportRefused:
                return None
            finally:
                await database.close()

    return asyncio.run(work())


def _adds_up(report: ImportReport | None) -> None:
    if report is not None:
        assert report.stored + report.merged + len(report.problems) == report.rows
        assert all(problem.line >= 1 and problem.reason for problem in report.problems)
        assert bool(report.contact_key) == (report.stored + report.merged > 0)


SLOW = settings(
    max_examples=examples(100),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
CELLS = st.one_of(
    st.text(max_size=12),
    st.sampled_from([JONO, "081299990000", "'0812", '"', '""', "8.1E+11", "\0", "=1+1", "nama", "phone"]),
)


@SLOW
@given(
    rows=st.lists(st.lists(CELLS, max_size=5), max_size=12),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]),
    header=st.booleans(),
)
@example(rows=[["\x85", "0812"]], delimiter=",", encoding="utf-8", header=True)
def test_any_text_in_a_csv_file_is_imported_reported_or_refused(
    lasting: Path, rows: list[list[str]], delimiter: str, encoding: str, header: bool
) -> None:
    lines = [delimiter.join(row) for row in rows]
    text = "\n".join([delimiter.join(("nama", "phone", "kota")), *lines] if header else lines)
    _adds_up(_imported(lasting, text.encode(encoding, "replace")))


def _damaged(content: bytes, cuts: list[tuple[int, bytes]]) -> bytes:
    for anywhere, other in cuts:
        at = anywhere % len(content)
        content = content[:at] + other + content[at + len(other) :]
    return content


CUTS = st.lists(st.tuples(st.integers(0, 2**20), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6)


@SLOW
@given(cuts=CUTS, length=st.floats(0.05, 1))
def test_a_csv_file_with_bytes_changed_or_cut_off_is_imported_reported_or_refused(
    lasting: Path, cuts: list[tuple[int, bytes]], length: float
) -> None:
    whole = (PLAIN * 5).encode("utf-16" if len(cuts) % 2 else "utf-8")
    _adds_up(_imported(lasting, _damaged(whole, cuts)[: int(len(whole) * length) + 1]))


@SLOW
@given(cuts=CUTS, length=st.floats(0.5, 1), outside=st.booleans())
def test_an_excel_file_with_bytes_changed_or_cut_off_is_imported_reported_or_refused(
    lasting: Path, cuts: list[tuple[int, bytes]], length: float, outside: bool
) -> None:
    packed = workbook(("nama", "phone"), ("Jono", JONO), ("Sri", 81299990000))
    if outside:
        broken = _damaged(packed, cuts)[: int(len(packed) * length) + 1]
    else:
        broken = _rewritten(packed, "xl/worksheets/sheet1.xml", lambda xml: _damaged(xml, cuts))
    _adds_up(_imported(lasting, broken))


def test_blank_rows_are_left_out_and_lines_keep_their_count(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n\n , \nc,d\n")
    assert [(row.line, row.cells) for row in read_rows(file, 10)] == [(1, ["a", "b"]), (4, ["c", "d"])]
