"""Statements that run on the driver behave as SQLAlchemy's do: rows, values, errors, lost connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, exc

from kurir.store.database import BadValue, Database, DatabaseUnavailable
from kurir.store.statements import Statement, json_array

TABLE = sa.Table(
    "t",
    sa.MetaData(),
    sa.Column("k", sa.BigInteger, primary_key=True),
    sa.Column("v", sa.Text),
    sa.Column("at", sa.Float, server_default="0"),
)
INSERT = Statement("INSERT INTO t (k, v, at) VALUES (:k, :v, :at)")
RENAME = Statement("UPDATE t SET v = :v WHERE k = :k RETURNING k, v AS name")
ALL = Statement("SELECT k, v, count(*) OVER () FROM t ORDER BY k")
COUNT = Statement("SELECT count(*) FROM t")


@pytest.fixture
async def database(where: Path | str) -> AsyncIterator[Database]:
    database = Database(where)
    await database.start()
    await database.write(TABLE.create)
    yield database
    await database.close()


def filled(connection: Connection) -> None:
    for k, v in enumerate(("a", "b", "100% :k", "d")):
        INSERT.change(connection, k=k, v=v, at=1.5)


async def test_rows_have_their_columns_as_attributes(database: Database) -> None:
    await database.write(filled)
    rows = await database.read(ALL.all)
    assert [(row.k, row.v, row[2]) for row in rows] == [(0, "a", 4), (1, "b", 4), (2, "100% :k", 4), (3, "d", 4)]
    assert await database.read(COUNT.scalar) == 4
    none = Statement("SELECT k FROM t WHERE k = :k")
    assert await database.read(lambda c: (none.first(c, k=9), none.scalar(c, k=9), none.all(c, k=9))) == (
        None,
        None,
        [],
    )


async def test_a_change_says_how_many_rows_and_which(database: Database) -> None:
    await database.write(filled)
    change = Statement("UPDATE t SET v = :v WHERE k < :k")
    assert await database.write(lambda c: change.change(c, v="x", k=2)) == 2
    renamed = await database.write(lambda c: RENAME.first(c, k=3, v=None))
    assert (renamed.k, renamed.name) == (3, None)
    assert await database.write(lambda c: RENAME.first(c, k=9, v="y")) is None


async def test_a_list_is_one_parameter(database: Database) -> None:
    await database.write(filled)
    numbers = Statement("SELECT k FROM t WHERE k IN each(:ks) ORDER BY k")
    words = Statement("SELECT k FROM t WHERE v IN each_text(:vs) ORDER BY k")

    def asked(connection: Connection) -> list[list[int]]:
        return [
            [row.k for row in numbers.all(connection, ks=json_array([0, 3, 2**62]))],
            [row.k for row in numbers.all(connection, ks=json_array([]))],
            [row.k for row in words.all(connection, vs=json_array(["b", '"', "100% :k", "d'"]))],
        ]

    assert await database.read(asked) == [[0, 3], [], [1, 2]]


async def test_an_expression_is_compiled_once_with_the_values_it_sets(database: Database) -> None:
    await database.write(filled)
    expression = TABLE.update().where(TABLE.c.k == sa.bindparam("key"), TABLE.c.v != "b").values(v="new", at=2.0)
    change = Statement(expression.returning(TABLE.c.v))
    assert await database.write(lambda c: [change.scalar(c, key=k) for k in range(3)]) == ["new", None, "new"]
    assert change._compile(database.engine.dialect.name) == change._compiled[database.engine.dialect.name]


async def test_a_refused_row_is_refused_as_by_sqlalchemy_and_harms_no_other(database: Database) -> None:
    await database.write(filled)

    def work(connection: Connection) -> None:
        INSERT.change(connection, k=50, v="half", at=1.0)
        INSERT.change(connection, k=1, v="again", at=1.0)

    with pytest.raises(exc.IntegrityError) as refused:
        await database.write(work)
    assert "again" not in str(refused.value)
    assert await database.read(COUNT.scalar) == 4


@pytest.mark.parametrize(("k", "v"), [(2**70, "x"), (7, "\ud800")], ids=["a huge number", "half a character"])
async def test_what_the_database_cannot_hold_is_the_callers_mistake(database: Database, k: int, v: str) -> None:
    with pytest.raises(BadValue):
        await database.write(lambda c: INSERT.change(c, k=k, v=v, at=1.0))
    assert await database.read(COUNT.scalar) == 0


async def test_a_mistake_in_a_statement_is_no_trouble_of_the_database(database: Database) -> None:
    wrong = Statement("SELECT k FROM t WHERE k = 'a' || ")
    with pytest.raises(exc.DBAPIError):
        await database.read(wrong.all)


async def test_listeners_see_it(database: Database) -> None:
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        seen.append((statement, parameters))

    sa.event.listen(database.engine, "before_cursor_execute", note)
    await database.write(lambda c: INSERT.change(c, k=1, v="x", at=1.0))
    sa.event.remove(database.engine, "before_cursor_execute", note)
    assert any(statement.startswith("INSERT INTO t") and values["k"] == 1 for statement, values in seen)


async def test_a_lost_connection_is_given_up(database: Database) -> None:
    if not isinstance(database.where, str):
        pytest.skip("SQLite has no connection to lose")

    def cut(connection: Connection) -> int:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        with database.engine.connect() as other:
            other.exec_driver_sql("SELECT pg_terminate_backend(%s)", (pid,))
        return COUNT.scalar(connection)

    lost: list[BaseException] = []

    def work(connection: Connection) -> int:
        if lost:
            return COUNT.scalar(connection)
        try:
            return cut(connection)
        except exc.DBAPIError as error:
            lost.append(error)
            raise

    assert await database.read(work) == 0  # on a new connection
    assert isinstance(lost[0], exc.DBAPIError)
    assert lost[0].connection_invalidated


async def test_text_that_is_damaged_on_disk_is_trouble_of_the_file(tmp_path: Path) -> None:
    database = Database(tmp_path / "t.db")
    await database.start()
    await database.write(TABLE.create)
    await database.write(lambda c: c.exec_driver_sql("INSERT INTO t (k, v) VALUES (1, CAST(x'ff' AS TEXT))"))
    with pytest.raises(DatabaseUnavailable, match="damaged"):
        await database.read(ALL.all)
    await database.close()
