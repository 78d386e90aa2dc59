"""The database: one writer with group commit, many readers, and the only place that commits.

`write(work)` hands a plain function to the writer; it runs inside the next transaction together with everything else
that waits, under a savepoint of its own, and its result comes back only after the flushed commit. `append` does the
same for the hottest inserts: all rows of one `Batch` in a group go down as a single statement. Nobody waits long: what
is not done in time is taken back, so that it surely was not stored.

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
from kurir.foundation.writer import CommitUnknown, DatabaseUnavailable, Item, Server, Work, Writer

T = TypeVar("T")
_READERS = 4
_READ_TRIES = 2

PATIENCE = 4.0
"""Seconds within which a read or a write has its answer; who calls the gateway gives up after 5."""
LONG_WORK = 60.0
"""Seconds for work of which nobody waits for the answer."""
_LAST_MOMENT = 0.5
"""Seconds more when the commit itself is under way."""


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

    async def write(self, work: Work[T], *, patience: float = PATIENCE, in_haste: bool = False) -> T:
        """Runs `work` in the next durable transaction and returns its result after the commit.

        An exception of `work` undoes only its own changes and is raised here. Raises DatabaseUnavailable, also when it
        could not be done within `patience` seconds. A commit that is under way by then is waited for, unless the caller
        is `in_haste`: CommitUnknown is raised.
        """
        return await self._submit(Item(self._future(), work=work), patience, in_haste)

    async def append(self, batch: Batch, rows: Sequence[Sequence[Any]]) -> None:
        """Adds rows of a hot insert to the next durable transaction, all or none; in haste (see `write`).

        Raises DatabaseUnavailable.
        """
        await self._submit(Item(self._future(), batch=batch, rows=rows), PATIENCE, True)

    async def read(self, work: Work[T], *, patience: float = PATIENCE) -> T:
        """Runs `work` on a snapshot, off the event loop. Raises DatabaseUnavailable, after `patience` seconds too."""
        if self._readers is None or self._closing or self._loop is None:
            raise DatabaseUnavailable("the database is closed")
        limit = asyncio.timeout(patience)
        try:
            async with limit:
                return await self._loop.run_in_executor(self._readers, self._read, work)
        except TimeoutError:
            if not limit.expired():
                raise
            raise DatabaseUnavailable(f"{self.name} did not answer within {patience:g} s") from None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction of its own, beside the writer: for commands and migrations. Raises DatabaseUnavailable."""
        with self._unavailable(), self.engine.connect() as connection:
            connection.exec_driver_sql(self._server.begin)
            try:
                yield connection
            except BaseException:
                with contextlib.suppress(exc.SQLAlchemyError):
                    connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")

    # -- inside ----------------------------------------------------------------------------------------------------

    def _future(self) -> asyncio.Future[Any]:
        if self._loop is None or self._closing:
            raise DatabaseUnavailable("the database is closed")
        return self._loop.create_future()

    async def _submit(self, item: Item, patience: float, in_haste: bool) -> Any:
        assert self._writer is not None
        assert self._loop is not None
        if self._writer.waiting() >= self._pending_limit:
            raise Overloaded("too many writes are waiting")
        self._writer.put(item)
        bell = self._loop.call_later(patience, self._late, item, in_haste)
        try:
            return await item.future
        finally:
            bell.cancel()

    def _late(self, item: Item, in_haste: bool) -> None:
        assert self._writer is not None
        assert self._loop is not None
        if item.future.done():
            return
        if self._writer.withdraw(item):
            item.future.set_exception(DatabaseUnavailable(f"{self.name} did not answer in time"))
        elif in_haste:
            self._loop.call_later(_LAST_MOMENT, _too_late, item, f"{self.name} did not answer a commit in time")

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
                with contextlib.suppress(exc.SQLAlchemyError):  # the connection may be lost, or known to be lost
                    connection.exec_driver_sql("ROLLBACK")

    @contextmanager
    def _unavailable(self) -> Iterator[None]:
        try:
            yield
        except exc.DBAPIError as error:
            if self._server.trouble(error) is None:
                raise
            raise DatabaseUnavailable(f"{self.name}: {error.orig}") from error


def _too_late(item: Item, why: str) -> None:
    if not item.future.done():
        item.future.set_exception(CommitUnknown(why))


__all__ = ["LONG_WORK", "PATIENCE", "Batch", "CommitUnknown", "Database", "DatabaseUnavailable", "Overloaded", "Work"]
