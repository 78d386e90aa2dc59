"""The database: one writer with group commit, many readers, and the only place that commits.

`write(work)` hands a plain function to the writer; it runs inside the next transaction together with everything else
that waits, under a savepoint of its own, and its result comes back only after the flushed commit. `append` does the
same for the hottest inserts: all rows of one `Batch` in a group go down as a single statement. Nobody waits long: what
is not done in time is taken back, so that it surely was not stored.

Reads run in pools of threads (`Pool`): what is read for callers and for the gateway itself, long lists, what strangers
set off, and health probes do not wait for each other; within a pool everybody has turns (`shared_threads`). A flood of
one account's reads delays that account.

Two databases behind one face: SQLite in a file (`sqlite`), or a PostgreSQL server (`postgres`). Store functions are
plain functions of a connection and speak the SQL that both understand; where the two differ, `inserts` knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, exc

from kurir.kit.shared_threads import STANDSTILL, Full, SharedThreads
from kurir.kit.tasks import TaskHealth
from kurir.store import ordered_appends, transaction_end
from kurir.store.inserts import Batch
from kurir.store.postgres import Postgres
from kurir.store.sqlite import Sqlite, damaged
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
"""work: reads of a few rows, for a caller or for the gateway itself · lists: pages, searches and counts, which may look
at very many rows · strangers: what somebody sets off who has not shown yet who he is · probe: health checks."""
_POOLS: dict[Pool, tuple[int, int]] = {
    "work": (6, 10_000),
    "lists": (2, 1_000),
    "strangers": (1, 500),
    "probe": (1, 100),
}
"""Each pool's threads, and how many reads may wait. One account alone may occupy half of the threads (`turns`)."""
_CONNECTIONS = 1 + sum(threads for threads, _ in _POOLS.values())

TIMEOUT = 2.5
"""Seconds within which a read or a write has its answer, or is given up if the database has come to a standstill; who
calls the gateway gives up after 5. A long queue that moves is waited for."""
_LOOK = 0.1
LONG_WORK = 60.0
"""Seconds for work of which nobody waits for the answer."""
_LAST_MOMENT = 0.8
"""Seconds more when the commit itself is under way."""


class _Deadline:
    """What is left of the seconds that a task waits for the database. Tasks that it starts have their own."""

    def __init__(self, seconds: float) -> None:
        self.task = asyncio.current_task()
        self.left = seconds


_timeout: ContextVar[_Deadline | None] = ContextVar("database_patience", default=None)


@contextmanager
def in_all(seconds: float = TIMEOUT) -> Iterator[None]:
    """Within this, the current task waits so long for the database in all, however often it asks."""
    token = _timeout.set(_Deadline(seconds))
    try:
        yield
    finally:
        _timeout.reset(token)


@contextmanager
def counted_wait() -> Iterator[None]:
    """The time in this block counts as waiting for the database: another task asks it for this one."""
    kept = _timeout.get()
    if kept is None or kept.task is not asyncio.current_task():
        yield
        return
    began = time.monotonic()
    try:
        yield
    finally:
        kept.left -= time.monotonic() - began


class _Watch:
    """After `seconds` looks whether the database stands still; as soon as it does, `give_up` is called, once."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        stands: Callable[[], bool],
        give_up: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._stands = stands
        self._give_up = give_up
        self._next = loop.call_later(seconds, self._look)

    def end(self) -> None:
        """Nothing is waited for any more."""
        self._next.cancel()

    def _look(self) -> None:
        if self._stands():
            self._give_up()
        else:
            self._next = self._loop.call_later(_LOOK, self._look)


class Overloaded(DatabaseUnavailable):
    """More waits than the bounded queue may hold. Nothing was stored."""


class Database:
    """A SQLite file (`where` is a path) or a PostgreSQL database (`where` is its URL).

    Start it once per process; `close` waits for what was handed in. Work that was handed in may be run again before
    it is committed, when the database asks for it: it must have no effect but on its connection.
    """

    def __init__(self, where: Path | str, pending_limit: int = 20_000) -> None:
        """Raises ValueError for a URL that is none of PostgreSQL."""
        of_kind = Sqlite(where, _CONNECTIONS) if isinstance(where, Path) else Postgres(where, _CONNECTIONS)
        self._server: Server = of_kind
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
        self._closing = False
        self._timeout = TIMEOUT

    async def start(self, health: TaskHealth | None = None, *, timeout: float = TIMEOUT) -> None:
        """Starts the writer and the readers; failures of the writer's thread are reported to `health`.

        `timeout`: seconds for reads and writes that name none of their own. Raises DatabaseUnavailable when the
        database cannot be reached.
        """
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._closing = False
        writer = Writer(self._server, self._loop, health or TaskHealth(), self._publish)
        await asyncio.to_thread(writer.start)
        self._writer = writer
        self._readers = {
            name: SharedThreads(f"db-read-{name}", threads, room=room) for name, (threads, room) in _POOLS.items()
        }

    async def close(self) -> None:
        """Commits what was handed in, then closes. Idempotent."""
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

        `work` may run several times, or be rolled back: it changes nothing but the database. What a commit changes in
        memory is done by `after_commit`, which is called on the event loop with the result, once, in the order of the
        commits, also when the caller was cancelled or gave up meanwhile. It must not raise.

        An exception of `work` undoes only its own changes and is raised here. Raises BadValue for what the database
        cannot hold; DatabaseUnavailable, also when it
        could not be done within `patience` seconds because the database stands still. A commit that is under way by
        then is waited for, unless the caller is `in_haste`: CommitUnknown is raised.
        """
        return await self._submit(Item(self._future(), work=work, after_commit=after_commit), timeout, in_haste)

    def refused_within(self, seconds: float) -> bool:
        """Whether the database could not store a transaction in the last so many seconds."""
        refused_at = self._writer.refused_at if self._writer is not None else None
        return refused_at is not None and time.monotonic() - refused_at < seconds

    async def append(
        self, batch: Batch, rows: Sequence[Sequence[Any]], *, after_commit: Callable[[None], None] | None = None
    ) -> None:
        """Adds rows of a hot insert to the next durable transaction, all or none; in haste (see `write`).

        Raises DatabaseUnavailable.
        """
        await self._submit(Item(self._future(), batch=batch, rows=rows, after_commit=after_commit), TIMEOUT, True)

    async def read(self, work: Work[T], *, of: Hashable = None, pool: Pool = "work", timeout: float | None = None) -> T:
        """Runs `work` on a snapshot, off the event loop.

        of: the account for which is read (None: the gateway itself; in the pool `strangers` where the request came
        from): all who wait in a pool have turns. What its caller no longer waits for is not begun.

        Raises DatabaseUnavailable, also when the database stands still for what is read here for `patience` seconds;
        BadValue for what it cannot compare with.
        """
        if not self._readers or self._closing or self._loop is None:
            raise DatabaseUnavailable("the database is closed")
        readers, loop = self._readers[pool], self._loop
        with self._counted(timeout or self._timeout) as seconds:
            try:
                job = readers.put(lambda: self._read(work), of)
            except Full as error:
                raise Overloaded(str(error)) from error

            def give_up() -> None:
                if not job.future.done():
                    job.future.set_exception(DatabaseUnavailable(f"{self.name} did not answer in time"))

            watch = _Watch(loop, seconds, lambda: readers.stands(job), give_up)
            try:
                return await job.future
            finally:
                watch.end()
                if job.began is None:
                    readers.take_back(job)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction of its own, beside the writer: for commands and migrations. Raises DatabaseUnavailable."""
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
    def snapshot(self) -> Iterator[Connection]:
        """The data as of one moment, for commands that only look: however long, it delays no write.

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
        with self._counted(timeout or self._timeout) as seconds:
            self._writer.put(item)
            watch = _Watch(self._loop, seconds, self._writes_stand, lambda: self._give_up(item, in_haste))
            try:
                return await item.future
            finally:
                watch.end()

    @contextmanager
    def _counted(self, timeout: float) -> Iterator[float]:
        """The seconds that may be waited now; what is waited is taken from what the task has in all."""
        assert self._loop is not None
        kept = _timeout.get()
        if kept is None or kept.task is not asyncio.current_task():
            yield timeout
            return
        began = self._loop.time()
        try:
            yield max(0.0, min(timeout, kept.left))
        finally:
            kept.left -= self._loop.time() - began

    def _writes_stand(self) -> bool:
        began = self._writer.busy_since if self._writer is not None else None
        return began is not None and time.monotonic() - began > STANDSTILL

    def _give_up(self, item: Item, in_haste: bool) -> None:
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
