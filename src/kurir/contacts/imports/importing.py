"""Imports people from a CSV or Excel file into a contact list; stores the good rows and reports every bad one.

`files` turns a file into rows, in a process with limits (`reading_process`), `columns` turns rows into people, and this
module stores them, a chunk per transaction. Importing into a list of the same name again merges, so an interrupted
import is simply run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from sqlalchemy import Connection

from kurir.accounts.accounts import Account
from kurir.contacts import contacts
from kurir.contacts.contacts import Added, Person
from kurir.contacts.imports import reading_process
from kurir.contacts.imports.columns import SAMPLE, Columns, RowError, person_of, understand
from kurir.contacts.imports.files import ImportRefused, Row
from kurir.kit.clock import system_clock
from kurir.messages import bounds
from kurir.reasons import Reason
from kurir.reasons.imports import EMPTY, MANY_ROWS
from kurir.store.database import LONG_WORK, Database

ROWS = 100_000
"""Maximum rows of one file, blank ones not counted."""


class Problem(msgspec.Struct, frozen=True):
    """A row that was not stored: its line in the file, counted from 1, and why."""

    line: int
    reason: Reason


class ImportReport(msgspec.Struct, frozen=True):
    """The result of an import: people added, rows merged into existing people, and the rows that were not stored.

    `contact_key` is the list's public id, "" when no row was good and no list was created.
    """

    contact_key: str
    rows: int
    stored: int
    merged: int
    problems: list[Problem]


async def import_file(
    database: Database, account: Account, path: Path, list_name: str, progress: Callable[[int], object] | None = None
) -> ImportReport:
    """Imports a file into the account's list `list_name`, creating it on first use.

    `progress` is called with the number of rows done, after each chunk. Numbers without a country code get the
    account's. Raises ImportRefused (nothing was stored) and DatabaseUnavailable (earlier chunks are stored; run it
    again).
    """
    rows = await reading_process.read(path, ROWS + 2)
    rows, columns = await asyncio.to_thread(_understood, rows, account.country_code)
    list_name = bounds.text(list_name, bounds.NAME)
    key, stored, merged, now = "", 0, 0, system_clock()
    problems: list[Problem] = []
    for start in range(0, len(rows), contacts.CHUNK):
        chunk = rows[start : start + contacts.CHUNK]
        people, bad = await asyncio.to_thread(_people, chunk, columns, account.country_code)
        problems += bad
        if people:
            key, added = await database.write(
                lambda c, p=people: _store(c, account.id, list_name, p, now), timeout=LONG_WORK
            )
            stored += added.new
            merged += added.merged
        if progress is not None:
            progress(start + len(chunk))
    return ImportReport(key, len(rows), stored, merged, problems)


def _understood(rows: list[Row], country_code: str) -> tuple[list[Row], Columns]:
    if not rows:
        raise ImportRefused(EMPTY())
    columns = understand([row.cells for row in rows[:SAMPLE]], country_code)
    rows = rows[1:] if columns.header else rows
    if len(rows) > ROWS:
        raise ImportRefused(MANY_ROWS(most=ROWS))
    return rows, columns


def _people(rows: Sequence[Row], columns: Columns, country_code: str) -> tuple[list[Person], list[Problem]]:
    people: list[Person] = []
    problems: list[Problem] = []
    for row in rows:
        if row.error:
            problems.append(Problem(row.line, row.error))
            continue
        try:
            people.append(person_of(row.cells, columns, country_code))
        except RowError as error:
            problems.append(Problem(row.line, error.reason))
    return people, problems


def _store(
    connection: Connection, account_id: int, list_name: str, people: list[Person], now: float
) -> tuple[str, Added]:
    contact = contacts.create_list(connection, account_id, list_name, "import", at=now)
    return contact.key, contacts.add_audiences(connection, account_id, contact.id, people, at=now)


__all__ = ["ImportRefused", "ImportReport", "Problem", "import_file"]
