"""Recognizes the columns of a file of people, and converts a row to a person. Pure.

A header is recognized in Indonesian and English; without one, the column that looks most like phone numbers is the
phone, and the first other column with letters is the name. All other columns become custom fields.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import msgspec

from kurir.contacts.contacts import Person
from kurir.contacts.imports.files import COLUMNS, ImportRefused
from kurir.messages import bounds
from kurir.messages.addresses import AddressError, parse_phone
from kurir.reasons import ReasonedError
from kurir.reasons import imports as reasons

NAME_LIMIT = 200
FIELD_LIMIT = 500
SAMPLE = 50
_PHONE_WORDS = (
    *("whatsapp", "nomorwhatsapp", "nowhatsapp", "whatsappnumber", "wanumber", "nomorwa", "nowa", "wa"),
    *("phoneno", "phonenumber", "phone", "mobile", "mobilephone", "mobilenumber", "cellphone", "msisdn"),
    *("nohp", "nomorhp", "hp", "handphone", "nohandphone", "nomorhandphone", "ponsel", "noponsel", "nomorponsel"),
    *("notelepon", "nomortelepon", "telepon", "notelp", "nomortelp", "telp", "tel", "telephone"),
    *("nomor", "number"),
)
"""Header words of the phone column without case, spaces and signs; the earlier one takes precedence when a file has
several."""
_NAME_WORDS = (
    *("nama", "namalengkap", "namapelanggan", "namakontak", "namapenerima"),
    *("name", "fullname", "customername", "contactname", "displayname", "customer", "pelanggan"),
)
_SCIENTIFIC = re.compile(r"(\+?\d)(?:[.,](\d*))?[eE]\+?(\d{1,3})")
_WITH_ZERO_FRACTION = re.compile(r"(\+?\d{6,})[.,]0{1,2}")
_IN_FORMULA = re.compile(r'="?([^"]*)"?')


class RowError(ReasonedError, ValueError):
    """A row is not a valid person, for a reason."""


class Columns(msgspec.Struct, frozen=True):
    """The meaning of the columns; `header` when the first row is not a person. `others` are named custom fields."""

    phone: int
    name: int | None
    others: dict[int, str]
    header: bool


def understand(sample: Sequence[Sequence[str]], country_code: str) -> Columns:
    """Recognizes the columns from the first rows of a file. Raises ImportRefused when none holds phone numbers."""
    width = max((len(cells) for cells in sample), default=0)
    titles = [_word(cell) for cell in sample[0]] if sample else []
    phone = _named(titles, _PHONE_WORDS)
    if phone is not None:
        return _columns(sample[0], width, phone, _named(titles, _NAME_WORDS), header=True)
    phone = _looks_like_phones(sample, width, country_code)
    if phone is None:
        raise ImportRefused(reasons.NO_PHONES())
    header = not any(c.isdigit() for c in _cell(sample[0], phone))
    name = _named(titles, _NAME_WORDS) if header else None
    if name is None:
        name = next((i for i in range(width) if i != phone and _has_words(sample[int(header) :], i)), None)
    return _columns(sample[0] if header else [], width, phone, name, header=header)


def person_of(cells: Sequence[str], columns: Columns, country_code: str) -> Person:
    """The person in a row. Raises RowError."""
    if any(cell.strip() for cell in cells[COLUMNS:]):
        raise RowError(reasons.MANY_COLUMNS(most=COLUMNS))
    text = _cell(cells, columns.phone).strip()
    if not text:
        raise RowError(reasons.NO_PHONE())
    name = _clean(_cell(cells, columns.name)) if columns.name is not None else ""
    if len(name) > NAME_LIMIT:
        raise RowError(reasons.LONG_NAME(most=NAME_LIMIT))
    fields: dict[str, str] = {}
    for index, cell in enumerate(cells):
        if index not in (columns.phone, columns.name) and (value := _clean(cell)):
            title = columns.others.get(index, f"column_{index + 1}")
            if len(value) > FIELD_LIMIT:
                raise RowError(reasons.LONG_FIELD(field=title[:40], most=FIELD_LIMIT))
            fields[title] = value
    try:
        return Person(parse_phone(phone_text(text), "", country_code), name, fields)
    except AddressError as error:
        raise RowError(reasons.WRONG_PHONE(text=_clean(text)[:40], reason=error.reason)) from error


def phone_text(text: str) -> str:
    """Restores a phone number that a spreadsheet has changed.

    Undoes `'0812…`, `="0812…"`, `81234567890.0` and `6.281234567890E+12`. Raises RowError for a number whose last
    digits are lost (`8.12E+11`): a wrong number would be worse than none.
    """
    text = text.strip()
    if formula := _IN_FORMULA.fullmatch(text):
        text = formula[1]
    text = text.strip().strip("'’‘`\u200b\ufeff")
    if plain := _WITH_ZERO_FRACTION.fullmatch(text):
        return plain[1]
    shortened = _SCIENTIFIC.fullmatch(text)
    if shortened is None:
        return text
    first, fraction, exponent = shortened[1], (shortened[2] or ""), int(shortened[3])
    if len(fraction) < exponent or fraction[exponent:].strip("0"):
        raise RowError(reasons.SHORTENED_PHONE(text=_clean(text)[:40]))
    return first + fraction[:exponent]


def _columns(titles: Sequence[str], width: int, phone: int, name: int | None, *, header: bool) -> Columns:
    others: dict[int, str] = {}
    for index in range(min(width, COLUMNS)):
        if index not in (phone, name):
            title = _clean(_cell(titles, index))[:NAME_LIMIT] or f"column_{index + 1}"
            others[index] = f"{title} {index + 1}" if title in others.values() else title
    return Columns(phone, name, others, header)


def _named(titles: Sequence[str], words: Sequence[str]) -> int | None:
    return next((titles.index(word) for word in words if word in titles), None)


def _looks_like_phones(sample: Sequence[Sequence[str]], width: int, country_code: str) -> int | None:
    scores = [sum(_is_phone(_cell(cells, i), country_code) for cells in sample) for i in range(min(width, COLUMNS))]
    best = max(scores, default=0)
    return scores.index(best) if best else None


def _is_phone(cell: str, country_code: str) -> bool:
    try:
        parse_phone(phone_text(cell), "", country_code)
    except ValueError:
        return False
    return True


def _has_words(sample: Sequence[Sequence[str]], index: int) -> bool:
    return any(any(c.isalpha() for c in _cell(cells, index)) for cells in sample)


def _cell(cells: Sequence[str], index: int) -> str:
    return cells[index] if index < len(cells) else ""


def _word(cell: str) -> str:
    return "".join(c for c in cell.casefold() if c.isalnum())


def _clean(text: str) -> str:
    """Text on one line that every database can store: no control characters, no lone surrogates."""
    text = bounds.text(text)
    kept = (" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c) not in ("Cc", "Cs"))
    return " ".join("".join(kept).split())
