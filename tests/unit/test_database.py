"""Group commit: results only after the commit, one bad work or row harms no other, reads see a snapshot."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from kurir.services.single_flight import OneAtATime
from kurir.store.database import Batch, Database, DatabaseUnavailable, Overloaded, _timeout, in_all
from kurir.store.writer import _CAREFUL

TABLE = sa.Table("t", sa.MetaData(), sa.Column("k", sa.BigInteger, primary_key=True), sa.Column("v", sa.Text))
INSERT = Batch(TABLE, ("k", "v"))


@pytest.fixture
async def database(where: Path | str) -> AsyncIterator[Database]:
    database = Database(where)
    await database.start()
    await database.write(TABLE.create)
    yield database
    await database.close()


def insert(key: int, value: str = "x"):
    return lambda c: c.scalar(TABLE.insert().values(k=key, v=value).returning(TABLE.c.k))


def keys(connection: Connection) -> list[int]:
    return list(connection.scalars(sa.select(TABLE.c.k).order_by(TABLE.c.k)))


async def test_sqlite_flushes_every_commit(tmp_path: Path):
    database = Database(tmp_path / "t.db")
    await database.start()
    modes = await database.write(
        lambda c: (c.exec_driver_sql("PRAGMA journal_mode").scalar(), c.exec_driver_sql("PRAGMA synchronous").scalar())
    )
    assert modes == ("wal", 2)  # 2 = FULL
    await database.close()


async def test_a_result_comes_only_after_the_commit(database: Database):
    outside = Database(database.where).engine  # another connection sees only what is committed
    for key in range(20):
        await database.write(insert(key))
        with outside.connect() as connection:
            assert len(keys(connection)) == key + 1
    outside.dispose()


async def test_works_share_commits_and_a_bad_one_undoes_only_itself(database: Database):
    def half_done(connection: Connection) -> None:
        insert(1000)(connection)
        raise ValueError("changed my mind")

    def swallowed(connection: Connection) -> str:
        try:
            insert(7)(connection)
        except IntegrityError:
            return "went on"
        return "not there yet"

    works = [*(insert(key) for key in range(50)), half_done, insert(7), swallowed, insert(50)]
    results = await asyncio.gather(*(database.write(work) for work in works), return_exceptions=True)
    assert results[:50] == list(range(50))
    assert isinstance(results[50], ValueError)
    assert isinstance(results[51], IntegrityError)
    # PostgreSQL does not let a work go on after an error; that must stay that work's own affair
    assert results[52] == "went on" or isinstance(results[52], sa.exc.DBAPIError)
    assert results[53] == 50
    assert await database.read(keys) == list(range(51))


async def test_savepoints_are_set_only_for_a_while_after_a_piece_of_work_has_failed(database: Database):
    seen: list[str] = []
    sa.event.listen(database.engine, "before_cursor_execute", lambda _c, _k, statement, *_more: seen.append(statement))

    def fails(connection: Connection) -> None:
        insert(1000)(connection)
        raise ValueError("changed my mind")

    await asyncio.gather(*(database.write(insert(key)) for key in range(20)), database.append(INSERT, [(50, "x")]))
    assert "SAVEPOINT work" not in seen
    with pytest.raises(ValueError, match="changed"):
        await database.write(fails)
    assert seen.count("SAVEPOINT work") == 1
    for key in range(100, 100 + _CAREFUL):
        await database.write(insert(key))
    assert seen.count("SAVEPOINT work") == _CAREFUL  # the failed one was the first of them
    seen.clear()
    await database.write(insert(200))
    assert "SAVEPOINT work" not in seen


async def test_a_group_is_run_again_when_one_fails_and_nothing_is_stored_twice(database: Database):
    ran: list[int] = []

    def work(key: int):
        def counted(connection: Connection) -> int:
            ran.append(key)
            insert(key)(connection)
            if key == 13:
                raise ValueError("unlucky")
            return key

        return counted

    results = await asyncio.gather(*(database.write(work(key)) for key in range(20)), return_exceptions=True)
    assert [one for one in results if not isinstance(one, ValueError)] == [key for key in range(20) if key != 13]
    assert await database.read(keys) == [key for key in range(20) if key != 13]
    assert max(map(ran.count, range(20))) == 2


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
    odd = 'quote " backslash \\ newline \n \\u0000 emoji 🎉 zero-width \u200b'
    await database.append(INSERT, [(2**62 + 1, odd)])
    assert (await database.read(lambda c: c.execute(sa.select(TABLE)).all())) == [(2**62 + 1, odd)]


async def test_a_caller_that_goes_away_does_not_disturb_the_group(database: Database):
    leaving = asyncio.create_task(database.write(insert(1)))
    staying = asyncio.create_task(database.write(insert(2)))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == 2
    assert 2 in await database.read(keys)


async def test_what_a_database_at_a_standstill_has_not_done_in_time_is_taken_back(database: Database):
    entered, released = threading.Event(), threading.Event()

    def stuck(connection: sa.Connection) -> None:
        insert(1)(connection)
        entered.set()
        released.wait(20)

    holding = asyncio.create_task(database.write(stuck, timeout=0.1))
    assert await asyncio.to_thread(entered.wait, 5)
    behind = asyncio.create_task(database.write(insert(2), timeout=0.1))
    patient = asyncio.create_task(database.write(insert(3), timeout=30))
    async with asyncio.timeout(5):
        for late in (holding, behind):
            with pytest.raises(DatabaseUnavailable):
                await late
    assert not patient.done()
    released.set()
    await patient
    assert await database.read(keys) == [3]


async def test_a_task_waits_for_the_database_only_so_long_in_all(database: Database):
    released = threading.Event()
    with in_all(0.1):
        with pytest.raises(DatabaseUnavailable):
            await database.read(lambda _: released.wait(20))
        began = time.monotonic()
        child = asyncio.create_task(database.read(keys))  # has its own patience
        with pytest.raises(DatabaseUnavailable):
            await database.read(lambda _: released.wait(20))
        assert time.monotonic() - began < 3
    assert await child == []
    released.set()


async def test_waiting_for_what_another_task_asks_counts_as_waiting_for_the_database():
    answered, single = asyncio.Event(), OneAtATime[str, str]()

    async def look_up() -> str:
        await answered.wait()
        return "found"

    first = asyncio.create_task(single.run("key", look_up))
    await asyncio.sleep(0)
    with in_all(30.0):
        asyncio.get_running_loop().call_later(0.2, answered.set)
        assert await single.run("key", look_up) == "found"
        left = _timeout.get()
        assert left is not None
        assert left.left < 29.9
    await first


async def test_a_transaction_of_ones_own_is_all_or_nothing(database: Database):
    with pytest.raises(ValueError, match="changed"), database.transaction() as connection:
        insert(1)(connection)
        raise ValueError("changed my mind")
    with database.transaction() as connection:
        insert(2)(connection)
    assert await database.read(keys) == [2]


async def test_a_snapshot_delays_no_write_and_does_not_see_it(database: Database):
    await database.write(insert(1))
    with database.snapshot() as connection:
        assert keys(connection) == [1]
        async with asyncio.timeout(5):
            await database.write(insert(2))
        assert keys(connection) == [1]
    with database.snapshot() as connection:
        assert keys(connection) == [1, 2]


async def test_it_refuses_when_closed_or_overloaded(where: Path | str):
    database = Database(where, pending_limit=0)
    with pytest.raises(DatabaseUnavailable):
        await database.write(insert(1))
    await database.start()
    with pytest.raises(Overloaded):
        await database.write(insert(1))
    await database.close()
    with pytest.raises(DatabaseUnavailable):
        await database.read(keys)


async def test_what_was_handed_in_is_committed_before_it_closes(database: Database):
    works = [asyncio.create_task(database.write(insert(key))) for key in range(30)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*works) == list(range(30))


@pytest.mark.parametrize("elsewhere", ["a missing folder", "a closed port"])
async def test_a_database_that_cannot_be_reached_is_trouble_not_a_bug(tmp_path: Path, elsewhere: str):
    missing = (
        tmp_path / "missing" / "t.db" if elsewhere == "a missing folder" else "postgresql://u:geheim@127.0.0.1:1/db"
    )
    database = Database(missing)
    with pytest.raises(DatabaseUnavailable) as refused:
        await database.start()
    assert "geheim" not in str(refused.value)
    with pytest.raises(DatabaseUnavailable), database.transaction():
        pass


@pytest.mark.parametrize("breaks", [False, True])
def test_a_schema_change_may_rebuild_a_table_that_others_point_at(tmp_path: Path, breaks: bool):
    database = Database(tmp_path / "t.db")
    with database.transaction() as connection:
        connection.exec_driver_sql("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql("CREATE TABLE children (parent INTEGER REFERENCES parents (id))")
        connection.exec_driver_sql("INSERT INTO parents VALUES (1)")
        connection.exec_driver_sql("INSERT INTO children VALUES (1)")

    def rebuild() -> None:
        with database.schema_change() as connection:
            connection.exec_driver_sql("CREATE TABLE anew (id INTEGER PRIMARY KEY, name TEXT)")
            if not breaks:
                connection.exec_driver_sql("INSERT INTO anew SELECT id, 'x' FROM parents")
            connection.exec_driver_sql("DROP TABLE parents")
            connection.exec_driver_sql("ALTER TABLE anew RENAME TO parents")

    if breaks:
        with pytest.raises(RuntimeError, match="breaks references"):
            rebuild()
    else:
        rebuild()
    with database.transaction() as connection:
        assert connection.exec_driver_sql("SELECT * FROM parents").all() == ([(1,)] if breaks else [(1, "x")])
        assert connection.exec_driver_sql("SELECT * FROM children").all() == [(1,)]
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    database.engine.dispose()
