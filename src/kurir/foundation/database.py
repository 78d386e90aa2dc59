"""The database: one writer with group commit, many readers, and the only place that commits.

`write(work)` hands a plain function to the writer; it runs inside the next transaction together with everything else
that waits, under a savepoint of its own, and its result comes back only after the flushed commit. `append` does the
same for the hottest inserts: all rows of one `Batch` in a group go down as a single statement.

SQLite runs in WAL mode with synchronous=FULL: a commit that returned has reached the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event, exc

T = TypeVar("T")
Work = Callable[[Connection], T]

_GROUP = 512
_READERS = 4
_encode = msgspec.json.Encoder().encode


class DatabaseUnavailable(Exception):  # noqa: N818 - a state of the world, not a mistake
    """The database cannot take or give data now (disk full, locked, gone, stopping). Nothing was stored."""


class Overloaded(DatabaseUnavailable):
    """More writes wait than the bounded queue may hold. Nothing was stored."""


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """An insert that takes many rows in one statement: `sql` reads them from the JSON array in its one parameter."""

    sql: str

    def parameters(self, rows: Sequence[Sequence[Any]]) -> tuple[str]:
        """What to execute `sql` with for these rows."""
        return (_encode(rows).decode(),)


class _Item:
    __slots__ = ("batch", "error", "future", "result", "rows", "work")

    def __init__(
        self,
        future: asyncio.Future[Any],
        work: Work[Any] | None,
        batch: Batch | None,
        rows: Sequence[Sequence[Any]],
    ) -> None:
        self.future = future
        self.work = work
        self.batch = batch
        self.rows = rows
        self.result: Any = None
        self.error: BaseException | None = None


class Database:
    """A SQLite database in one file. Start it once per process; `close` waits for what was handed in."""

    def __init__(self, path: Path, pending_limit: int = 20_000) -> None:
        self.path = path
        self._pending_limit = pending_limit
        self._items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._readers: ThreadPoolExecutor | None = None
        self._writer: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False
        self.engine = sqlite_engine(path)

    async def start(self) -> None:
        """Starts the writer and the readers. Raises DatabaseUnavailable when the file cannot be opened."""
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="db-read")
        ready: asyncio.Future[None] = self._loop.create_future()
        self._writer = threading.Thread(target=self._run, args=(ready,), name="db-write", daemon=True)
        self._writer.start()
        await ready

    async def close(self) -> None:
        """Commits what was handed in, then closes. Idempotent."""
        if self._closing or self._writer is None or self._readers is None:
            return
        self._closing = True
        self._items.put(None)
        await asyncio.to_thread(self._writer.join)
        self._readers.shutdown(wait=True)
        self.engine.dispose()

    async def write(self, work: Work[T]) -> T:
        """Runs `work` in the next durable transaction and returns its result after the commit.

        An exception of `work` undoes only its own changes and is raised here. Raises DatabaseUnavailable.
        """
        return await self._submit(_Item(self._future(), work, None, ()))

    async def append(self, batch: Batch, rows: Sequence[Sequence[Any]]) -> None:
        """Adds rows of a hot insert to the next durable transaction, all or none. Raises DatabaseUnavailable."""
        await self._submit(_Item(self._future(), None, batch, rows))

    async def read(self, work: Work[T]) -> T:
        """Runs `work` on a snapshot, off the event loop. Raises DatabaseUnavailable."""
        if self._readers is None or self._closing or self._loop is None:
            raise DatabaseUnavailable("the database is closed")
        return await self._loop.run_in_executor(self._readers, self._read, work)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _future(self) -> asyncio.Future[Any]:
        if self._loop is None or self._closing:
            raise DatabaseUnavailable("the database is closed")
        return self._loop.create_future()

    async def _submit(self, item: _Item) -> Any:
        if self._items.qsize() >= self._pending_limit:
            raise Overloaded("too many writes are waiting")
        self._items.put(item)
        return await item.future

    def _read(self, work: Work[T]) -> T:
        try:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("BEGIN")
                try:
                    return work(connection)
                finally:
                    connection.exec_driver_sql("ROLLBACK")
        except exc.OperationalError as error:
            raise DatabaseUnavailable(str(error.orig)) from error

    def _run(self, ready: asyncio.Future[None]) -> None:
        assert self._loop is not None
        try:
            connection = self.engine.connect()
        except exc.OperationalError as error:
            self._loop.call_soon_threadsafe(ready.set_exception, DatabaseUnavailable(str(error.orig)))
            return
        self._loop.call_soon_threadsafe(ready.set_result, None)
        open_ = True
        while open_:
            first = self._items.get()
            if first is None:
                break
            group = [first]
            while len(group) < _GROUP:
                try:
                    item = self._items.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    open_ = False
                    break
                group.append(item)
            self._commit(connection, group)
            self._loop.call_soon_threadsafe(_resolve, group)
        connection.close()

    def _commit(self, connection: Connection, group: list[_Item]) -> None:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            for batch, items in _by_batch(group):
                _append(connection, batch, items)
            for item in group:
                if item.work is not None:
                    _work(connection, item)
            connection.exec_driver_sql("COMMIT")
        except exc.DBAPIError as error:
            with contextlib.suppress(exc.DBAPIError):  # SQLite may have rolled back on its own (disk full)
                connection.exec_driver_sql("ROLLBACK")
            for item in group:
                item.error = DatabaseUnavailable(str(error.orig))


def sqlite_engine(path: Path) -> Engine:
    """An engine on one SQLite file, in WAL mode with synchronous=FULL, without implicit transactions."""
    engine = sa.create_engine(
        f"sqlite:///{path}",
        isolation_level="AUTOCOMMIT",
        poolclass=sa.pool.QueuePool,
        pool_size=_READERS + 1,
        max_overflow=4,
        hide_parameters=True,  # an error must not carry what people wrote into a log
        connect_args={"timeout": 10.0, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _by_batch(group: list[_Item]) -> list[tuple[Batch, list[_Item]]]:
    found: dict[Batch, list[_Item]] = {}
    for item in group:
        if item.batch is not None:
            found.setdefault(item.batch, []).append(item)
    return list(found.items())


def _append(connection: Connection, batch: Batch, items: list[_Item]) -> None:
    """One statement for all rows; if a row is bad, each item on its own, so that only the bad one fails."""
    connection.exec_driver_sql("SAVEPOINT rows")
    try:
        connection.exec_driver_sql(batch.sql, batch.parameters([row for item in items for row in item.rows]))
    except exc.IntegrityError:
        connection.exec_driver_sql("ROLLBACK TO rows")
        for item in items:
            connection.exec_driver_sql("SAVEPOINT row")
            try:
                connection.exec_driver_sql(batch.sql, batch.parameters(item.rows))
            except exc.IntegrityError as error:
                connection.exec_driver_sql("ROLLBACK TO row")
                item.error = error
            connection.exec_driver_sql("RELEASE row")
    connection.exec_driver_sql("RELEASE rows")


def _work(connection: Connection, item: _Item) -> None:
    assert item.work is not None
    connection.exec_driver_sql("SAVEPOINT work")
    try:
        item.result = item.work(connection)
    except exc.OperationalError:
        raise  # the database itself is in trouble: the whole group fails
    except BaseException as error:
        connection.exec_driver_sql("ROLLBACK TO work")
        item.error = error
    connection.exec_driver_sql("RELEASE work")


def _resolve(group: list[_Item]) -> None:
    for item in group:
        if item.future.done():
            continue  # the caller was cancelled; the commit stands
        if item.error is not None:
            item.future.set_exception(item.error)
        else:
            item.future.set_result(item.result)
