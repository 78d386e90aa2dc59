"""Group commit: changes to one database, many in one flushed transaction, off the event loop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Change = Callable[[sqlite3.Connection], Any]


class GroupCommit:
    """The one writer of the database at `path`: what is asked for while a commit runs goes into the next one."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._thread = ThreadPoolExecutor(1, f"commit-{path.stem}")
        self._waiting: list[tuple[Change, asyncio.Future[Any]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def apply(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `change` in the writer's thread; returns its result when it is flushed to disk.

        Changes are applied in the order of the calls. Raises what `change` or the commit raises. A change that is not
        awaited to its end is applied all the same.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, future))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        return await future

    async def close(self) -> None:
        """Waits for the last commit and closes the database."""
        if self._committing is not None:
            await self._committing
        self._thread.shutdown()
        self._db.close()

    async def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                changes = [change for change, _ in batch]
                outcomes = await loop.run_in_executor(self._thread, self._transaction, changes)
                for (_, future), (result, error) in zip(batch, outcomes, strict=True):
                    if future.cancelled():
                        continue
                    if error is None:
                        future.set_result(result)
                    else:
                        future.set_exception(error)
        finally:
            self._committing = None

    def _transaction(self, changes: list[Change]) -> list[tuple[Any, Exception | None]]:
        """Each change's result or error; a failed change is undone alone, a failed commit fails them all."""
        outcomes: list[tuple[Any, Exception | None]] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for change in changes:
                self._db.execute("SAVEPOINT one")
                try:
                    outcomes.append((change(self._db), None))
                except Exception as error:
                    self._db.execute("ROLLBACK TO one")
                    outcomes.append((None, error))
                self._db.execute("RELEASE one")
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            return [(None, error) for _ in changes]
        return outcomes
