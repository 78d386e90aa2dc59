"""Group commit: in order, many changes in one transaction, a failed one alone is undone."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kurir_sandbox.group_commit import GroupCommit


def _create(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, n INTEGER UNIQUE)")


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[GroupCommit]:
    writer = GroupCommit(tmp_path / "some.db")
    await writer.apply(_create)
    yield writer
    await writer.close()


def rows(path: Path) -> list[int]:
    """What another connection sees."""
    with sqlite3.connect(path / "some.db") as db:
        found = [n for (n,) in db.execute("SELECT n FROM rows ORDER BY id")]
    db.close()
    return found


def insert(n: int):
    return lambda db: db.execute("INSERT INTO rows (n) VALUES (?)", (n,)).lastrowid


async def test_every_change_is_committed_when_it_returns_and_in_order(writer: GroupCommit, tmp_path: Path) -> None:
    first = await writer.apply(insert(7))
    assert (first, rows(tmp_path)) == (1, [7])
    ids = await asyncio.gather(*(writer.apply(insert(n)) for n in range(100, 300)))
    assert ids == list(range(2, 202))
    assert rows(tmp_path) == [7, *range(100, 300)]


async def test_what_comes_during_a_commit_shares_the_next_one(writer: GroupCommit, tmp_path: Path) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(db: sqlite3.Connection) -> None:
        entered.set()
        assert go_on.wait(10)
        insert(1)(db)

    seen: list[list[int]] = []
    first = asyncio.create_task(writer.apply(slow))
    await asyncio.to_thread(entered.wait, 10)
    later = [asyncio.create_task(writer.apply(insert(n))) for n in (2, 3)]
    later[-1].add_done_callback(lambda _: seen.append(rows(tmp_path)))
    last = asyncio.create_task(writer.apply(lambda db: seen.append(rows(tmp_path))))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(first, *later, last)
    assert seen == [[1], [1, 2, 3]], "2, 3 and the look from outside were one transaction"


async def test_a_failed_change_is_undone_alone(writer: GroupCommit, tmp_path: Path) -> None:
    def half(db: sqlite3.Connection) -> None:
        insert(5)(db)
        insert(1)(db)

    outcomes = await asyncio.gather(
        writer.apply(insert(1)), writer.apply(half), writer.apply(insert(9)), return_exceptions=True
    )
    assert isinstance(outcomes[1], sqlite3.IntegrityError)
    assert rows(tmp_path) == [1, 9]


async def test_a_change_nobody_waits_for_is_applied(writer: GroupCommit, tmp_path: Path) -> None:
    asking = asyncio.create_task(writer.apply(insert(1)))
    await asyncio.sleep(0)
    asking.cancel()
    await writer.apply(insert(2))
    assert rows(tmp_path) == [1, 2]


async def test_a_full_disk_is_an_error_and_not_the_end(writer: GroupCommit, tmp_path: Path) -> None:
    def large(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE large AS SELECT zeroblob(10000000)")

    await writer.apply(lambda db: db.execute("PRAGMA max_page_count = 10").fetchone())
    with pytest.raises(sqlite3.OperationalError, match="full"):
        await writer.apply(large)
    await writer.apply(insert(3))
    assert rows(tmp_path) == [3]
