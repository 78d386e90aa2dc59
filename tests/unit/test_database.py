"""Group commit: results only after the commit, one bad work or row harms no other, reads see a snapshot."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from kurir.foundation.database import Batch, Database, DatabaseUnavailable, Overloaded

INSERT = Batch("INSERT INTO t (k, v) SELECT value->>0, value->>1 FROM json_each(?)")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "t.db")
    await database.start()
    await database.write(lambda c: c.exec_driver_sql("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT)"))
    yield database
    await database.close()


def insert(key: int, value: str = "x"):
    return lambda c: c.exec_driver_sql("INSERT INTO t VALUES (?, ?)", (key, value)).rowcount


def keys(connection: Connection) -> list[int]:
    return [row[0] for row in connection.exec_driver_sql("SELECT k FROM t ORDER BY k")]


async def test_it_flushes_every_commit(database: Database):
    modes = await database.write(
        lambda c: (c.exec_driver_sql("PRAGMA journal_mode").scalar(), c.exec_driver_sql("PRAGMA synchronous").scalar())
    )
    assert modes == ("wal", 2)  # 2 = FULL


async def test_a_result_comes_only_after_the_commit(database: Database):
    for key in range(20):
        await database.write(insert(key))
        with sqlite3.connect(database.path) as outside:  # another connection sees only what is committed
            assert outside.execute("SELECT count(*) FROM t").fetchone() == (key + 1,)
        outside.close()


async def test_works_share_commits_and_a_bad_one_undoes_only_itself(database: Database):
    def half_done(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO t VALUES (1000, 'x')")
        raise ValueError("changed my mind")

    works = [database.write(insert(key)) for key in range(50)] + [database.write(half_done), database.write(insert(7))]
    results = await asyncio.gather(*works, return_exceptions=True)
    assert results[:50] == [1] * 50
    assert isinstance(results[50], ValueError)
    assert isinstance(results[51], IntegrityError)
    assert await database.read(keys) == list(range(50))


async def test_rows_of_one_append_stand_or_fall_together(database: Database):
    works = [
        database.append(INSERT, [(1, "a"), (2, "b")]),
        database.append(INSERT, [(3, "c"), (1, "again")]),
        database.append(INSERT, [(4, "d")]),
    ]
    results = await asyncio.gather(*works, return_exceptions=True)
    assert isinstance(results[1], IntegrityError)
    assert await database.read(keys) == [1, 2, 4]


async def test_big_ids_and_odd_texts_survive_the_json_way(database: Database):
    odd = 'quote " backslash \\ newline \n emoji 🎉 zero-width \u200b'
    await database.append(INSERT, [(2**62 + 1, odd)])
    assert await database.read(lambda c: c.exec_driver_sql("SELECT k, v FROM t").fetchall()) == [(2**62 + 1, odd)]


async def test_a_caller_that_goes_away_does_not_disturb_the_group(database: Database):
    leaving = asyncio.create_task(database.write(insert(1)))
    staying = asyncio.create_task(database.write(insert(2)))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == 1
    assert 2 in await database.read(keys)


async def test_it_refuses_when_closed_or_overloaded(tmp_path: Path):
    database = Database(tmp_path / "t.db", pending_limit=0)
    with pytest.raises(DatabaseUnavailable):
        await database.write(insert(1))
    await database.start()
    with pytest.raises(Overloaded):
        await database.write(insert(1))
    await database.close()
    with pytest.raises(DatabaseUnavailable):
        await database.read(keys)


async def test_what_was_handed_in_is_committed_before_it_closes(tmp_path: Path):
    database = Database(tmp_path / "t.db")
    await database.start()
    await database.write(lambda c: c.exec_driver_sql("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT)"))
    works = [asyncio.create_task(database.write(insert(key))) for key in range(30)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*works) == [1] * 30


async def test_a_file_that_cannot_be_opened_is_named_as_trouble_not_as_a_bug(tmp_path: Path):
    database = Database(tmp_path / "missing" / "t.db")
    with pytest.raises(DatabaseUnavailable):
        await database.start()
