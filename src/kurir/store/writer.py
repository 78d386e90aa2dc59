"""The writer: one thread that runs pending work in groups, each group in one durable transaction.

The exception of a piece of work undoes only its own changes: a group in which one fails is rolled back and run again,
each piece under a savepoint of its own, and so are the next groups for a while. Nearly always nothing fails, and no
savepoint is needed. When the database fails, a group is retried where that is safe (nothing was committed) and may help
(a new connection, a deadlock); otherwise every caller gets DatabaseUnavailable within seconds. While the database is
away the writer keeps reconnecting with growing pauses, and continues when it is back.

More than 300 lines: one thread's loop, with every way in which a commit can fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeVar

import structlog
from sqlalchemy import Connection, Engine, exc

from kurir.kit.backoff import Backoff
from kurir.kit.tasks import TaskHealth
from kurir.store import ordered_appends, transaction_end
from kurir.store.inserts import Batch
from kurir.store.ordered_appends import OrderedAppends
from kurir.store.statements import run

T = TypeVar("T")
Work = Callable[[Connection], T]
Trouble = Literal["again", "down", "busy", "value"]
"""Classes of database errors.

again: the same transaction may succeed if it is run once more, on a new connection if this one is lost · down: nothing
can be stored now · busy: only this statement failed now · value: the database works, but cannot hold or process a given
value (too large, too long, not text).
"""

UNFIT = (OverflowError, UnicodeEncodeError)
"""Errors that drivers raise before the database sees a value: an integer of more than 64 bits, a lone surrogate."""
_GROUP = 512
_TRIES = 3
_PAUSE_FIRST, _PAUSE_MOST = 0.1, 2.0
_LOOK_UP, _LOOK_UP_PAUSE = 4.0, 0.2
_CAREFUL = 32
"""Groups that are run with savepoints after one in which a piece of work has failed."""

log = structlog.get_logger(__name__)


class DatabaseUnavailable(Exception):  # noqa: N818 - a state of the world, not a mistake
    """The database cannot store or return data now (disk full, locked, gone, too slow, stopping). Nothing was stored,
    unless it is a CommitUnknown."""


class BadValue(ValueError):  # noqa: N818 - the caller's mistake, reported as such
    """A value that the database cannot hold or process, although it is well-formed. Nothing was stored."""


class CommitUnknown(DatabaseUnavailable):
    """The connection broke, or the server stopped responding, during a commit: it is unknown what was stored."""


class Server(Protocol):
    """What the writer needs from a kind of database. `name` is for people and contains no password."""

    name: str
    engine: Engine
    begin: str
    begin_read: str
    begin_schema: tuple[str, ...]
    broken_references: str
    """A query whose first row is a broken reference; "" when the server always enforces references."""
    shared: bool
    """Whether several processes may write."""

    def trouble(self, error: exc.DBAPIError) -> Trouble | None:
        """Classifies an error; None when the statement itself is wrong."""
        ...

    def sentence(self, error: exc.DBAPIError) -> str:
        """An error as a sentence for people; it names the database, and what to do where that is known."""
        ...

    def shows_damage(self, error: exc.DBAPIError) -> bool:
        """Whether an error can only result from a damaged database, whatever `trouble` returns for it."""
        ...

    def ticket(self, connection: Connection) -> str | None:
        """An id of the current transaction, by which `was_committed` finds it after a broken commit."""
        ...

    def was_committed(self, connection: Connection, ticket: str) -> bool:
        """Whether that transaction was committed. Raises DBAPIError when that is not known yet."""
        ...


class Item:
    """A piece of work or rows of a batch, with its future. Once `sealed`, its commit is in progress.

    `after_commit` is called on the event loop with the result, in the order of the commits, whether or not anybody
    still awaits the future.
    """

    __slots__ = ("after_commit", "batch", "error", "future", "result", "rows", "sealed", "withdrawn", "work")

    def __init__(
        self,
        future: asyncio.Future[Any],
        *,
        work: Work[Any] | None = None,
        batch: Batch | None = None,
        rows: Sequence[Sequence[Any]] = (),
        after_commit: Callable[[Any], None] | None = None,
    ) -> None:
        self.future = future
        self.after_commit = after_commit
        self.work = work
        self.batch = batch
        self.rows = rows
        self.result: Any = None
        self.error: BaseException | None = None
        self.sealed = False
        self.withdrawn = False


class Writer:
    """The writer thread. Items are put from the event loop; their futures are resolved there after the commit.

    `busy_since`: when the group under way began (monotonic seconds), None between groups; `refused_at`: when a group
    could last not be stored. `appended` is called on the event loop after each commit with ordered appends, with their
    keys.
    """

    def __init__(
        self,
        server: Server,
        loop: asyncio.AbstractEventLoop,
        health: TaskHealth,
        appended: Callable[[frozenset[int]], None] = lambda _: None,
    ) -> None:
        self._health = health
        self._appended = appended
        self._appends = OrderedAppends()
        self._failing = False
        self._server = server
        self._loop = loop
        self._items: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._connection: Connection | None = None
        self._backoff = Backoff(_PAUSE_FIRST, _PAUSE_MOST)
        self._not_before = 0.0
        self._sealing = threading.Lock()
        self._careful = 0
        """Groups that are still to be run with savepoints."""
        self.busy_since: float | None = None
        self.refused_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="db-write", daemon=True)

    def start(self) -> None:
        """Connects and starts the thread. Raises DatabaseUnavailable."""
        self._connect()
        self._thread.start()

    def put(self, item: Item) -> None:
        """Queues an item."""
        self._items.put(item)

    def withdraw(self, item: Item) -> bool:
        """Withdraws an item, which will not be stored then; False when its commit is in progress already."""
        with self._sealing:
            item.withdrawn = not item.sealed
            return item.withdrawn

    def waiting(self) -> int:
        """Number of queued items."""
        return self._items.qsize()

    def finish(self) -> None:
        """Commits all queued items, then ends the thread; blocks until then."""
        self._items.put(None)
        self._thread.join()

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        more = True
        while more:
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
                    more = False
                    break
                group.append(item)
            self.busy_since = time.monotonic()
            keys = self._store(group)
            self.busy_since = None
            self._loop.call_soon_threadsafe(_resolve, group)
            if keys:
                self._loop.call_soon_threadsafe(self._appended, keys)
        self._disconnect()

    def _store(self, group: list[Item]) -> frozenset[int]:
        """Commits a group. Any failure becomes each item's error: the thread continues.

        Returns the keys of its ordered appends.
        """
        try:
            keys = self._commit(group)
        except DatabaseUnavailable as error:
            self.refused_at = time.monotonic()
            for item in group:
                item.error = error
        except BaseException as error:
            # unexpected: the transaction's state is unknown, so the connection is closed and nothing was stored by it
            log.exception("task_failed", task="database-writer", items=len(group))
            self._disconnect()
            for item in group:
                unknown = CommitUnknown if item.sealed else DatabaseUnavailable
                item.error = unknown("the database writer failed")
            self._report(error)
        else:
            self._report(None)
            return keys
        return frozenset()

    def _report(self, error: BaseException | None) -> None:
        """Reports the writer's health from its thread to the event loop, only when it changes."""
        if error is not None:
            self._loop.call_soon_threadsafe(self._health.failed, "database-writer", "", error)
        elif self._failing:
            self._loop.call_soon_threadsafe(self._health.recovered, "database-writer")
        self._failing = error is not None

    def _commit(self, group: list[Item]) -> frozenset[int]:
        """Runs and commits what of a group is not withdrawn; returns the keys of its ordered appends.

        Raises DatabaseUnavailable when none could be stored.
        """
        tries_left = _TRIES
        while live := [item for item in group if not item.withdrawn]:
            connection = self._connect()
            tries_left -= 1
            ran = False
            try:
                if not self._run_group(connection, live):
                    tries_left += 1
                    continue
                ran = True
                keys = self._appends.insert(connection)
                ticket = self._server.ticket(connection)
                if not self._seal(live):
                    run(connection, "ROLLBACK")
                    tries_left += 1  # the next attempt runs without them
                    continue
            except exc.DBAPIError as error:
                self._roll_back(error)
                trouble = self._server.trouble(error)
                if trouble == "again" and tries_left:
                    continue
                if ran and trouble in (None, "value"):
                    return self._commit_each(live, error, trouble)
                raise DatabaseUnavailable(self._server.sentence(error)) from error
            try:
                run(connection, "COMMIT")
            except exc.DBAPIError as error:
                self._roll_back(error)
                if ticket is not None and self._was_committed(ticket):
                    return keys
                if ticket is None or not tries_left:
                    raise DatabaseUnavailable(self._server.sentence(error)) from error
                self._unseal(live)
                continue
            return keys
        return frozenset()

    def _commit_each(self, live: list[Item], error: exc.DBAPIError, trouble: Trouble | None) -> frozenset[int]:
        """After a row among the ordered appends was refused: only the item that brought it fails."""
        if len(live) > 1:
            none: frozenset[int] = frozenset()
            return none.union(*[self._store([item]) for item in live])
        live[0].error = BadValue(bad_value(error)) if trouble == "value" else error
        return frozenset()

    def _seal(self, live: list[Item]) -> bool:
        """Marks the items as no longer withdrawable; False when one has been withdrawn."""
        with self._sealing:
            if any(item.withdrawn for item in live):
                return False
            for item in live:
                item.sealed = True
            return True

    def _unseal(self, live: list[Item]) -> None:
        with self._sealing:
            for item in live:
                item.sealed = False

    def _connect(self) -> Connection:
        if self._connection is None:
            if time.monotonic() < self._not_before:
                raise DatabaseUnavailable(f"{self._server.name} cannot be reached")
            try:
                self._connection = self._server.engine.connect()
            except exc.DBAPIError as error:
                self._not_before = time.monotonic() + self._backoff.after_failure()
                raise DatabaseUnavailable(self._server.sentence(error)) from error
            self._backoff.reset()
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(exc.DBAPIError):
                self._connection.close()
            self._connection = None

    def _roll_back(self, error: exc.DBAPIError) -> None:
        """Rolls back, so that the connection can be used for the next transaction, or closes it."""
        log.warning("database_unavailable", database=self._server.name, reason=str(error.orig))
        if self._connection is not None and not error.connection_invalidated:
            try:
                self._connection.exec_driver_sql("ROLLBACK")
                return
            except exc.DBAPIError:  # lost, or SQLite had rolled back on its own (disk full)
                pass
        self._disconnect()

    def _was_committed(self, ticket: str) -> bool:
        """Finds out whether a commit whose answer was lost succeeded. Raises CommitUnknown when that stays unknown for
        too long."""
        deadline = time.monotonic() + _LOOK_UP
        while time.monotonic() < deadline:
            try:
                return self._server.was_committed(self._connect(), ticket)
            except (DatabaseUnavailable, exc.DBAPIError) as error:
                if isinstance(error, exc.DBAPIError):
                    self._roll_back(error)
                threading.Event().wait(_LOOK_UP_PAUSE)
        log.error("commit_unknown", database=self._server.name, transaction=ticket)
        raise CommitUnknown("the connection broke during a commit; whether it was stored is not known")

    # -- one transaction -------------------------------------------------------------------------------------------

    def _run_group(self, connection: Connection, group: list[Item]) -> bool:
        """Begins a transaction and runs the group in it; False: it was rolled back and has to be run once more, with
        savepoints. Raises DBAPIError when the whole transaction cannot continue."""
        run(connection, self._server.begin)
        transaction_end.taken(connection)
        self._appends = ordered_appends.begin(connection)
        for item in group:
            item.result = item.error = None
        careful = self._careful > 0
        if careful:
            self._careful -= 1
            self._run_carefully(connection, group)
        elif not self._run_at_once(connection, group):
            run(connection, "ROLLBACK")
            return False
        for work in transaction_end.taken(connection):
            nobodys = Item(group[0].future)
            self._guarded(connection, nobodys, work)
            if nobodys.error is not None:
                log.error("transaction_end_failed", exc_info=nobodys.error)
        return True

    def _run_at_once(self, connection: Connection, group: list[Item]) -> bool:
        """Runs a group without savepoints; False when a piece of it failed. Raises DBAPIError."""
        current: Item | None = None
        try:
            for batch, items in _by_batch(group):
                batch.insert(connection, [row for item in items for row in item.rows])
            for item in group:
                if item.work is not None:
                    current = item
                    item.result = item.work(connection)
        except BaseException as error:
            if isinstance(error, exc.DBAPIError):
                trouble = self._server.trouble(error)
                if trouble in ("again", "down"):
                    raise
                if trouble == "busy" and current is not None:
                    # it has waited for its lock once, and the others of the group with it
                    current.error = DatabaseUnavailable(self._server.sentence(error))
                    current.withdrawn = True
            self._careful = _CAREFUL
            return False
        return True

    def _run_carefully(self, connection: Connection, group: list[Item]) -> None:
        """Runs a group piece by piece, each under a savepoint. Raises DBAPIError."""
        for batch, items in _by_batch(group):
            self._append(connection, batch, items)
        for item in group:
            if item.work is not None:
                self._guarded(connection, item, item.work)

    def _append(self, connection: Connection, batch: Batch, items: list[Item]) -> None:
        """Inserts all rows in one statement; if a row is bad, inserts each item separately, so that only the bad one
        fails."""
        together = Item(items[0].future)
        self._guarded(connection, together, lambda c: batch.insert(c, [row for item in items for row in item.rows]))
        if together.error is not None:
            for item in items:
                self._guarded(connection, item, lambda c, rows=item.rows: batch.insert(c, rows))

    def _guarded(self, connection: Connection, item: Item, work: Work[Any]) -> None:
        """Runs work under a savepoint. Raises DBAPIError when the whole transaction cannot continue."""
        run(connection, "SAVEPOINT work")
        mark = self._appends.mark()
        try:
            item.result = work(connection)
            run(connection, "RELEASE work")
        except BaseException as error:
            item.error = error
            if isinstance(error, exc.DBAPIError):
                trouble = self._server.trouble(error)
                if trouble in ("again", "down"):
                    raise
                if trouble == "busy" or self._server.shows_damage(error):
                    item.error = DatabaseUnavailable(self._server.sentence(error))
                elif trouble == "value":
                    item.error = BadValue(bad_value(error))
            elif isinstance(error, UNFIT):
                item.error = BadValue(bad_value(error))
            self._appends.undo(mark)
            run(connection, "ROLLBACK TO work")
            run(connection, "RELEASE work")


def bad_value(error: BaseException) -> str:
    """A driver's message about a value, without the value."""
    if isinstance(error, exc.DBAPIError):
        return f"{type(error.orig).__name__}: {str(error.orig).splitlines()[0][:200]}"
    return type(error).__name__


def _by_batch(group: list[Item]) -> list[tuple[Batch, list[Item]]]:
    found: dict[Batch, list[Item]] = {}
    for item in group:
        if item.batch is not None:
            found.setdefault(item.batch, []).append(item)
    return list(found.items())


def _resolve(group: list[Item]) -> None:
    for item in group:
        if item.after_commit is not None and item.error is None and not item.withdrawn:
            try:
                item.after_commit(item.result)
            except Exception:
                log.exception("after_commit_failed")  # the commit stands, and so do the others of the group
        if item.future.done():
            continue  # the caller was cancelled; the commit stands
        if item.error is not None:
            item.future.set_exception(item.error)
        else:
            item.future.set_result(item.result)
