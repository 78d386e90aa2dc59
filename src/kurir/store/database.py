"""The database: one writer with group commit, many readers, and the only module that commits.

`write(work)` passes a plain function to the writer, which runs it in the next transaction together with everything else
that waits, under a savepoint of its own; its result is returned after the flushed commit. `append` does the same for
the most frequent inserts: all rows of one `Batch` in a group become a single statement. Waiting is bounded: work that
is not done in time is withdrawn, so that it is certain that it was not stored.

Reads run in separate thread pools (`Pool`), so that reads for callers and the gateway, long lists, unauthenticated
requests and health probes do not delay each other; within a pool accounts take turns (`shared_threads`), so that a
flood of reads delays only its own account.

Two databases behind one interface: SQLite in a file (`sqlite`), or a PostgreSQL server (`postgres`). Store functions
are plain functions of a connection and use SQL that both understand; `inserts` covers the differences.

More than 300 lines: the one interface to the database: writing, reading and the timeouts of both.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, exc

from kurir.kit.shared_threads import STANDSTILL, Full, Job, SharedThreads
from kurir.kit.tasks import TaskHealth
from kurir.store import ordered_appends, transaction_end
from kurir.store.inserts import Batch
from kurir.store.sqlite import Sqlite, damaged
from kurir.store.statements import run
from kurir.store.timeouts import Timeouts
from kurir.store.writer import (
    UNFIT,
    BadValue,
    CommitUnknown,
    DatabaseUnavailable,
    Item,
    Server,
    Work,
    Writer,
    bad_value,
)

T = TypeVar("T")
_READ_TRIES = 2

Pool = Literal["work", "lists", "strangers", "probe"]
"""Thread pools for reads.

work: reads of a few rows, for a caller or for the gateway itself · lists: pages, searches and counts, which may scan
very many rows · strangers: reads before a caller is authenticated · probe: health checks.
"""
_POOLS: dict[Pool, tuple[int, int]] = {
    "work": (6, 10_000),
    "lists": (2, 1_000),
    "strangers": (1, 500),
    "probe": (1, 100),
}
"""Each pool's threads, and how many reads may wait. One account alone may occupy half of the threads (`turns`)."""
_CONNECTIONS = 1 + sum(threads for threads, _ in _POOLS.values())

TIMEOUT = 2.5
"""Seconds after which a read or a write is given up if the database is stuck; callers of the gateway give up after 5. A
long queue that moves is waited for."""
LONG_WORK = 60.0
"""Timeout in seconds for work whose result nobody awaits interactively."""
_LAST_MOMENT = 0.8
"""Additional seconds when the commit itself is in progress."""


class _Deadline:
    """The remaining seconds that a task may wait for the database. Tasks that it starts have their own."""

    def __init__(self, seconds: float) -> None:
        self.task = asyncio.current_task()
        self.left = seconds


_timeout: ContextVar[_Deadline | None] = ContextVar("database_time_left", default=None)


class TimeLimit:
    """A block in which the current task may wait for the database `seconds` in all."""

    __slots__ = ("_seconds", "_token")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._token = _timeout.set(_Deadline(self._seconds))

    def __exit__(self, *_error: object) -> None:
        _timeout.reset(self._token)


def in_all(seconds: float = TIMEOUT) -> TimeLimit:
    """Limits the total time that the current task may wait for the database within the block."""
    return TimeLimit(seconds)


@contextmanager
def counted_wait() -> Generator[None]:
    """Counts the time in this block as waiting for the database, when another task reads or writes on behalf of this
    one."""
    kept = _timeout.get()
    if kept is None or kept.task is not asyncio.current_task():
        yield
        return
    began = time.monotonic()
    try:
        yield
    finally:
        kept.left -= time.monotonic() - began


class Overloaded(DatabaseUnavailable):
    """The bounded queue of writes is full. Nothing was stored."""


class Database:
    """A SQLite file (`where` is a path) or a PostgreSQL database (`where` is its URL).

    Start it once per process; `close` finishes pending work. The database may require that work is run again before it
    is committed, so work must change nothing but the database.
    """

    def __init__(self, where: Path | str, pending_limit: int = 20_000) -> None:
        """Raises ValueError for a URL that is not one of PostgreSQL."""
        self._server: Server = Sqlite(where, _CONNECTIONS) if isinstance(where, Path) else _postgres(where)
        self.where = where
        self.name = self._server.name
        self.shared = self._server.shared
        self.engine = self._server.engine
        self.appended: Callable[[frozenset[int]], None] = lambda _: None
        """Called on the event loop after each commit of the writer that had ordered appends, with their keys."""
        self._pending_limit = pending_limit
        self._readers: dict[Pool, SharedThreads] = {}
        self._writer: Writer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timeouts: Timeouts | None = None
        self._closing = False
        self._timeout = TIMEOUT

    async def start(self, health: TaskHealth | None = None, *, timeout: float = TIMEOUT) -> None:
        """Starts the writer and the readers; failures of the writer's thread are reported to `health`.

        `timeout`: seconds for reads and writes that name none of their own. Raises DatabaseUnavailable when the
        database cannot be reached.
        """
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._timeouts = Timeouts(self._loop)
        self._closing = False
        writer = Writer(self._server, self._loop, health or TaskHealth(), self._publish)
        await asyncio.to_thread(writer.start)
        self._writer = writer
        self._readers = {
            name: SharedThreads(f"db-read-{name}", threads, room=room) for name, (threads, room) in _POOLS.items()
        }

    async def close(self) -> None:
        """Commits pending work, then closes. Idempotent."""
        if self._closing or self._writer is None:
            return
        self._closing = True
        await asyncio.to_thread(self._writer.finish)
        for readers in self._readers.values():
            await asyncio.to_thread(readers.close)
        self.engine.dispose()

    async def write(
        self,
        work: Work[T],
        *,
        after_commit: Callable[[T], None] | None = None,
        timeout: float | None = None,
        in_haste: bool = False,
    ) -> T:
        """Runs `work` in the next durable transaction and returns its result after the commit.

        `work` may run several times, or be rolled back: it changes nothing but the database. Changes in memory belong
        in `after_commit`, which is called on the event loop with the result, once, in the order of the commits, also
        when the caller was cancelled or gave up meanwhile. It must not raise.

        An exception of `work` undoes only its own changes and is raised here. Raises BadValue for what the database
        cannot hold; DatabaseUnavailable, also when the work was not done within `timeout` seconds because the database
        is stuck. A commit that is in progress by then is awaited, unless the caller is `in_haste`: then CommitUnknown
        is raised.
        """
        return await self._submit(Item(self._future(), work=work, after_commit=after_commit), timeout, in_haste)

    def refused_within(self, seconds: float) -> bool:
        """Whether the database failed to store a transaction in the last `seconds`."""
        refused_at = self._writer.refused_at if self._writer is not None else None
        return refused_at is not None and time.monotonic() - refused_at < seconds

    async def append(
        self, batch: Batch, rows: Sequence[Sequence[Any]], *, after_commit: Callable[[None], None] | None = None
    ) -> None:
        """Adds rows of a `Batch` to the next durable transaction, all or none, with `in_haste` (see `write`).

        Raises DatabaseUnavailable.
        """
        await self._submit(Item(self._future(), batch=batch, rows=rows, after_commit=after_commit), TIMEOUT, True)

    async def read(self, work: Work[T], *, of: Hashable = None, pool: Pool = "work", timeout: float | None = None) -> T:
        """Runs `work` on a snapshot, off the event loop.

        of: the account on whose behalf it reads (None: the gateway itself; in the pool `strangers` the request's
        source); readers in a pool take turns by it. Work whose caller no longer waits is not started.

        Raises DatabaseUnavailable, also when the pool is stuck for `timeout` seconds; BadValue for a value the database
        cannot compare with.
        """
        if not self._readers or self._closing or self._loop is None:
            raise DatabaseUnavailable("the database is closed")
        readers = self._readers[pool]
        try:
            job = readers.put(lambda: self._read(work), of)
        except Full as error:
            raise Overloaded(str(error)) from error
        try:
            return await self._in_time(job, timeout, readers.stands, self._give_up_read)
        finally:
            if job.began is None:
                readers.take_back(job)

    @contextmanager
    def transaction(self) -> Generator[Connection]:
        """A transaction beside the writer, for commands and migrations. Raises DatabaseUnavailable."""
        with self._unavailable(), self.engine.connect() as connection:
            connection.exec_driver_sql(self._server.begin)
            transaction_end.taken(connection)
            appends = ordered_appends.begin(connection)
            try:
                yield connection
                for work in transaction_end.taken(connection):
                    work(connection)
                appends.insert(connection)
            except BaseException:
                ordered_appends.end(connection)
                with contextlib.suppress(exc.SQLAlchemyError):
                    connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")

    @contextmanager
    def snapshot(self) -> Generator[Connection]:
        """A consistent snapshot for read-only commands; it delays no write, however long it takes.

        Raises DatabaseUnavailable.
        """
        with self._unavailable(), self.engine.connect() as connection:
            connection.exec_driver_sql(self._server.begin_read)
            try:
                yield connection
            finally:
                with contextlib.suppress(exc.SQLAlchemyError):
                    connection.exec_driver_sql("ROLLBACK")

    @contextmanager
    def schema_change(self) -> Generator[Connection]:
        """A transaction in which tables may be rebuilt, on a connection of its own. Raises DatabaseUnavailable.

        It has no timeout. SQLite counts a table that is replaced by its rebuilt version as broken references, so
        references are not checked meanwhile, but as a whole before the commit.
        """
        with self._unavailable(), self.engine.connect() as connection:
            connection.detach()  # its settings must not reach other users of the pool
            for statement in self._server.begin_schema:
                connection.exec_driver_sql(statement)
            yield connection
            look = self._server.broken_references
            if look and (broken := connection.exec_driver_sql(look).first()):
                raise RuntimeError(f"the schema change breaks references: {tuple(broken)}")
            connection.exec_driver_sql("COMMIT")

    # -- inside ----------------------------------------------------------------------------------------------------

    def _publish(self, keys: frozenset[int]) -> None:
        self.appended(keys)

    def _future(self) -> asyncio.Future[Any]:
        if self._loop is None or self._closing:
            raise DatabaseUnavailable("the database is closed")
        return self._loop.create_future()

    async def _submit(self, item: Item, timeout: float | None, in_haste: bool) -> Any:
        assert self._writer is not None
        assert self._loop is not None
        if self._writer.waiting() >= self._pending_limit:
            raise Overloaded("too many writes are waiting")
        self._writer.put(item)
        give_up = self._give_up_in_haste if in_haste else self._give_up
        return await self._in_time(item, timeout, self._writes_stand, give_up)

    async def _in_time(
        self,
        waiting: Item | Job,
        timeout: float | None,
        stands: Callable[[Any], bool],
        give_up: Callable[[Any], object],
    ) -> Any:
        """Waits for the future of an item or a job; the wait is deducted from the task's total."""
        assert self._loop is not None
        assert self._timeouts is not None
        seconds = timeout or self._timeout
        kept = _timeout.get()
        if kept is not None and kept.task is not asyncio.current_task():
            kept = None
        began = self._loop.time()
        if kept is not None:
            seconds = max(0.0, min(seconds, kept.left))
        self._timeouts.begin(waiting, seconds, stands, give_up)
        try:
            return await waiting.future
        finally:
            self._timeouts.end(waiting)
            if kept is not None:
                kept.left -= self._loop.time() - began

    def _writes_stand(self, _item: Item) -> bool:
        began = self._writer.busy_since if self._writer is not None else None
        return began is not None and time.monotonic() - began > STANDSTILL

    def _give_up(self, item: Item) -> bool:
        """Withdraws an item; False when its commit is in progress."""
        assert self._writer is not None
        withdrawn = self._writer.withdraw(item)
        if withdrawn and not item.future.done():
            item.future.set_exception(DatabaseUnavailable(f"{self.name} did not answer in time"))
        return withdrawn

    def _give_up_in_haste(self, item: Item) -> None:
        assert self._loop is not None
        if not self._give_up(item):
            self._loop.call_later(_LAST_MOMENT, _too_late, item, f"{self.name} did not answer a commit in time")

    def _give_up_read(self, job: Job) -> None:
        if not job.future.done():
            job.future.set_exception(DatabaseUnavailable(f"{self.name} did not answer in time"))

    def _read(self, work: Work[T]) -> T:
        for tries_left in reversed(range(_READ_TRIES)):
            try:
                return self._read_once(work)
            except exc.DBAPIError as error:
                trouble = self._server.trouble(error)
                if self._server.shows_damage(error):
                    raise DatabaseUnavailable(self._server.sentence(error)) from error
                if trouble is None:
                    raise
                if trouble == "value":
                    raise BadValue(bad_value(error)) from error
                if trouble != "again" or not tries_left:
                    raise DatabaseUnavailable(self._server.sentence(error)) from error
            except UNFIT as error:
                raise BadValue(bad_value(error)) from error
            except UnicodeDecodeError as error:
                raise self._not_text(error) from error
            except exc.TimeoutError as error:
                raise DatabaseUnavailable("every connection to the database is in use") from error
        raise AssertionError("the last try returns or raises")

    def _read_once(self, work: Work[T]) -> T:
        with self.engine.connect() as connection:
            run(connection, self._server.begin_read)
            try:
                return work(connection)
            finally:
                with contextlib.suppress(exc.SQLAlchemyError):  # the connection may be lost already
                    run(connection, "ROLLBACK")

    @contextmanager
    def _unavailable(self) -> Generator[None]:
        try:
            yield
        except exc.DBAPIError as error:
            if self._server.trouble(error) in (None, "value") and not self._server.shows_damage(error):
                raise
            raise DatabaseUnavailable(self._server.sentence(error)) from error
        except UnicodeDecodeError as error:
            raise self._not_text(error) from error

    def _not_text(self, error: UnicodeDecodeError) -> Exception:
        """What SQLite says quotes the file, which holds anything when it is damaged."""
        if isinstance(self.where, str):
            return error
        return DatabaseUnavailable(damaged(self.where, "what is in it is no UTF-8"))


def _postgres(url: str) -> Server:
    from kurir.store.postgres import Postgres  # noqa: PLC0415 - brings psycopg, which SQLite never needs

    return Postgres(url, _CONNECTIONS)


def _too_late(item: Item, why: str) -> None:
    if not item.future.done():
        item.future.set_exception(CommitUnknown(why))


__all__ = [
    "LONG_WORK",
    "TIMEOUT",
    "BadValue",
    "Batch",
    "CommitUnknown",
    "Database",
    "DatabaseUnavailable",
    "Overloaded",
    "Pool",
    "Work",
    "counted_wait",
    "in_all",
]
