"""The database: one writer with group commit, many readers, and the only place that commits.

`write(work)` hands a plain function to the writer; it runs inside the next transaction together with everything else
that waits, under a savepoint of its own, and its result comes back only after the flushed commit. `append` does the
same for the hottest inserts: all rows of one `Batch` in a group go down as a single statement.

Two databases behind one face: SQLite in a file (`sqlite`), or a PostgreSQL server (`postgres`). Store functions are
plain functions of a connection and speak the SQL that both understand; where the two differ, `inserts` knows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, exc

from kurir.foundation.inserts import Batch
from kurir.foundation.postgres import Postgres
from kurir.foundation.sqlite import Sqlite
from kurir.foundation.writer import DatabaseUnavailable, Item, Server, Work, Writer

T = TypeVar("T")
_READERS = 4
_READ_TRIES = 2


class Overloaded(DatabaseUnavailable):
    """More writes wait than the bounded queue may hold. Nothing was stored."""


class Database:
    """A SQLite file (`where` is a path) or a PostgreSQL database (`where` is its URL).

    Start it once per process; `close` waits for what was handed in. Work that was handed in may be run again before
    it is committed, when the database asks for it: it must have no effect but on its connection.
    """

    def __init__(self, where: Path | str, pending_limit: int = 20_000) -> None:
        """Raises ValueError for a URL that is none of PostgreSQL."""
        pool = _READERS + 1
        self._server: Server = Sqlite(where, pool) if isinstance(where, Path) else Postgres(where, pool)
        self.where = where
        self.name = self._server.name
        self.shared = self._server.shared
        self.engine = self._server.engine
        self._pending_limit = pending_limit
        self._readers: ThreadPoolExecutor | None = None
        self._writer: Writer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False

    async def start(self) -> None:
        """Starts the writer and the readers. Raises DatabaseUnavailable when the database cannot be reached."""
        self._loop = asyncio.get_running_loop()
        self._closing = False
        writer = Writer(self._server, self._loop)
        await asyncio.to_thread(writer.start)
        self._writer = writer
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="db-read")

    async def close(self) -> None:
        """Commits what was handed in, then closes. Idempotent."""
        if self._closing or self._writer is None or self._readers is None:
            return
        self._closing = True
        await asyncio.to_thread(self._writer.finish)
        self._readers.shutdown(wait=True)
        self.engine.dispose()

    async def write(self, work: Work[T]) -> T:
        """Runs `work` in the next durable transaction and returns its result after the commit.

        An exception of `work` undoes only its own changes and is raised here. Raises DatabaseUnavailable.
        """
        return await self._submit(Item(self._future(), work=work))

    async def append(self, batch: Batch, rows: Sequence[Sequence[Any]]) -> None:
        """Adds rows of a hot insert to the next durable transaction, all or none. Raises DatabaseUnavailable."""
        await self._submit(Item(self._future(), batch=batch, rows=rows))

    async def read(self, work: Work[T]) -> T:
        """Runs `work` on a snapshot, off the event loop. Raises DatabaseUnavailable."""
        if self._readers is None or self._closing or self._loop is None:
            raise DatabaseUnavailable("the database is closed")
        return await self._loop.run_in_executor(self._readers, self._read, work)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction of its own, beside the writer: for commands and migrations. Raises DatabaseUnavailable."""
        with self._unavailable(), self.engine.connect() as connection:
            connection.exec_driver_sql(self._server.begin)
            try:
                yield connection
            except BaseException:
                with contextlib.suppress(exc.DBAPIError):
                    connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")

    @contextmanager
    def schema_change(self) -> Iterator[Connection]:
        """A transaction in which tables may be rebuilt, on a connection of its own. Raises DatabaseUnavailable.

        It may take its time. SQLite counts a table that is replaced by its new self as broken references: they are not
        watched meanwhile, and looked at as a whole before the commit.
        """
        with self._unavailable(), self.engine.connect() as connection:
            connection.detach()  # its settings are for nobody else
            for statement in self._server.begin_schema:
                connection.exec_driver_sql(statement)
            yield connection
            look = self._server.broken_references
            if look and (broken := connection.exec_driver_sql(look).first()):
                raise RuntimeError(f"the schema change breaks references: {tuple(broken)}")
            connection.exec_driver_sql("COMMIT")

    # -- inside ----------------------------------------------------------------------------------------------------

    def _future(self) -> asyncio.Future[Any]:
        if self._loop is None or self._closing:
            raise DatabaseUnavailable("the database is closed")
        return self._loop.create_future()

    async def _submit(self, item: Item) -> Any:
        assert self._writer is not None
        if self._writer.waiting() >= self._pending_limit:
            raise Overloaded("too many writes are waiting")
        self._writer.put(item)
        return await item.future

    def _read(self, work: Work[T]) -> T:
        for tries_left in reversed(range(_READ_TRIES)):
            try:
                return self._read_once(work)
            except exc.DBAPIError as error:
                trouble = self._server.trouble(error)
                if trouble is None:
                    raise
                if trouble != "again" or not tries_left:
                    raise DatabaseUnavailable(str(error.orig)) from error
            except exc.TimeoutError as error:
                raise DatabaseUnavailable("every connection to the database is in use") from error
        raise AssertionError("the last try returns or raises")

    def _read_once(self, work: Work[T]) -> T:
        with self.engine.connect() as connection:
            connection.exec_driver_sql(self._server.begin_read)
            try:
                return work(connection)
            finally:
                with contextlib.suppress(exc.DBAPIError):  # the connection may be lost
                    connection.exec_driver_sql("ROLLBACK")

    @contextmanager
    def _unavailable(self) -> Iterator[None]:
        try:
            yield
        except exc.DBAPIError as error:
            if self._server.trouble(error) is None:
                raise
            raise DatabaseUnavailable(f"{self.name}: {error.orig}") from error


__all__ = ["Batch", "Database", "DatabaseUnavailable", "Overloaded", "Work"]
