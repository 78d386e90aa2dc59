"""What only PostgreSQL can do to us: lost connections, lost answers, deadlocks, timeouts, characters it cannot hold."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from tests.postgres import Postgres

from kurir.store.database import Batch, Database, DatabaseUnavailable
from kurir.store.postgres import address

TABLE = sa.Table("t", sa.MetaData(), sa.Column("k", sa.BigInteger, primary_key=True), sa.Column("v", sa.Text))
INSERT = Batch(TABLE, ("k", "v"))
BOUND = 12.0
"""Seconds within which every call must have an answer, on a busy machine."""


class Wire:
    """A TCP proxy before the server; `cut` is called with what the client sends and may break the connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._links: set[asyncio.Task[None]] = set()
        self.lose_answer_to = b""
        self.lose_request = b""
        self.lost = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        for link in list(self._links):
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        answers = asyncio.create_task(_pump(from_server, to_client))
        try:
            while data := await from_client.read(65536):
                if self.lose_request and self.lose_request in data:
                    self.lost += 1
                    self.lose_request = b""
                    return
                if self.lose_answer_to and self.lose_answer_to in data:
                    self.lost += 1
                    self.lose_answer_to = b""
                    answers.cancel()
                    to_server.write(data)
                    await to_server.drain()
                    await from_server.read(1)  # the server has answered; nobody will hear it
                    return
                to_server.write(data)
                await to_server.drain()
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)
            to_client.close()
            to_server.close()
            self._links.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    url = postgres.new_database()
    yield url
    postgres.drop(url)


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with opened(url) as database:
        await database.write(TABLE.create)
        yield database


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    await database.start()
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def wire(postgres: Postgres) -> AsyncIterator[Wire]:
    wire = Wire(postgres.port)
    await wire.start()
    yield wire
    await wire.close()


def insert(key: int, value: str = "x"):
    return lambda c: c.execute(TABLE.insert().values(k=key, v=value)) and None


def keys(connection: Connection) -> list[int]:
    return list(connection.scalars(sa.select(TABLE.c.k).order_by(TABLE.c.k)))


def cut_all(connection: Connection) -> None:
    connection.exec_driver_sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def test_it_asks_for_flushed_commits_where_they_are_switched_off(postgres: Postgres, url: str):
    postgres.run(f"ALTER DATABASE {make_url(url).database} SET synchronous_commit = off")
    async with opened(url) as database:
        assert await database.write(lambda c: c.scalar(sa.text("SHOW synchronous_commit"))) == "on"


async def test_a_character_it_cannot_hold_is_replaced_on_every_way_in(database: Database):
    await database.write(insert(1, "a\0b"))
    await database.append(INSERT, [(2, "a\0b"), (3, "a\\u0000b"), (4, "\\\0")])
    stored = await database.read(lambda c: c.execute(sa.select(TABLE).order_by(TABLE.c.k)).all())
    assert stored == [(1, "a\ufffdb"), (2, "a\ufffdb"), (3, "a\\u0000b"), (4, "\\\ufffd")]


async def test_cut_connections_cost_nobody_an_error(database: Database, url: str):
    await database.read(keys)
    async with opened(url) as other:
        await other.write(cut_all)
    results = await asyncio.gather(*(database.write(insert(key)) for key in range(10)), database.read(keys))
    assert results[:10] == [None] * 10
    assert await database.read(keys) == list(range(10))


async def test_while_the_server_is_down_it_refuses_soon_and_goes_on_by_itself(postgres: Postgres, database: Database):
    postgres.stop(signal.SIGQUIT)
    try:
        for _ in range(3):
            works = [database.write(insert(1)), database.append(INSERT, [(2, "x")]), database.read(keys)]
            async with asyncio.timeout(BOUND):
                results = await asyncio.gather(*works, return_exceptions=True)
            assert [type(result) for result in results] == [DatabaseUnavailable] * 3
    finally:
        postgres.start()
    async with asyncio.timeout(BOUND):
        while True:
            with contextlib.suppress(DatabaseUnavailable):
                await database.write(insert(7))
                break
            await asyncio.sleep(0.05)
    assert await database.read(keys) == [7]


async def test_when_the_answer_to_a_commit_is_lost_the_transaction_is_looked_up(wire: Wire, url: str):
    through = make_url(url).set(port=wire.port).render_as_string()
    async with opened(through) as database:
        await database.write(TABLE.create)
        wire.lose_answer_to = b"COMMIT"
        await database.write(insert(1))  # it was committed: running it again would break the primary key
        assert wire.lost == 1
        wire.lose_request = b"COMMIT"
        await database.write(insert(2))  # it was not: it is run again
        assert wire.lost == 2
        assert await database.read(keys) == [1, 2]


async def test_a_statement_that_takes_too_long_fails_alone(database: Database):
    def slow(connection: Connection) -> None:
        insert(1)(connection)
        connection.exec_driver_sql("SET LOCAL statement_timeout = '50ms'")
        connection.exec_driver_sql("SELECT pg_sleep(30)")

    results = await asyncio.gather(database.write(slow), database.write(insert(2)), return_exceptions=True)
    assert isinstance(results[0], DatabaseUnavailable)
    assert await database.read(keys) == [2]


async def test_a_work_that_waits_in_vain_for_a_lock_fails_alone_and_waits_once(database: Database, url: str):
    await database.write(insert(1))
    tries: list[int] = []

    def change(connection: Connection) -> None:
        tries.append(1)
        connection.exec_driver_sql("SET LOCAL lock_timeout = '50ms'")
        connection.execute(TABLE.update().where(TABLE.c.k == 1).values(v="new"))

    async with opened(url) as other:
        with other.transaction() as holding:
            holding.execute(TABLE.update().where(TABLE.c.k == 1).values(v="held"))
            works = (database.write(insert(2)), database.write(change), database.append(INSERT, [(3, "x")]))
            results = await asyncio.gather(*works, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), DatabaseUnavailable, type(None)]
    assert await database.read(keys) == [1, 2, 3]
    assert len(tries) == 1


async def test_of_two_that_lock_each_other_out_both_succeed(database: Database, url: str):
    await database.write(lambda c: [insert(key)(c) for key in (1, 2)] and None)
    meeting = threading.Barrier(2)

    def both(first: int, second: int, mark: str):
        def work(connection: Connection) -> None:
            for key in (first, second):
                change = TABLE.update().where(TABLE.c.k == key).values(v=sa.func.concat(TABLE.c.v, mark))
                connection.execute(change)
                with contextlib.suppress(threading.BrokenBarrierError):
                    meeting.wait(2.0)  # only the first time: the one that is run again comes alone
                meeting.abort()

        return work

    async with opened(url) as other:
        await asyncio.gather(database.write(both(1, 2, "a")), other.write(both(2, 1, "b")))
    values = await database.read(lambda c: list(c.scalars(sa.select(TABLE.c.v))))
    assert [sorted(value) for value in values] == [["a", "b", "x"]] * 2


@pytest.mark.parametrize(
    "wrong", ["mysql://u:geheim@h/db", "postgresql://u:geheim@h", "geheim", "postgresql://u:geheim@h:x/db"]
)
def test_a_wrong_address_is_refused_without_repeating_it(wrong: str):
    with pytest.raises(ValueError, match="expected postgresql://") as refused:
        address(wrong)
    assert "geheim" not in str(refused.value)


def test_the_databases_name_for_people_holds_no_password():
    database = Database("postgres://user:geheim@db.example/kurir?password=geheim")
    assert database.name == "PostgreSQL database kurir on db.example"
