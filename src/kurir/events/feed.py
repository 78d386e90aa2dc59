"""The feed: readers of the event log in this process wait here for new events instead of polling.

A commit in this process notifies the readers of its accounts at once, and so does a notification from another gateway.
Nothing depends on either: the feed also polls the log, once for all readers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Collection, Generator, Iterable
from contextlib import contextmanager

import sqlalchemy as sa
import structlog

from kurir.events import read
from kurir.events.bodies import EventType
from kurir.events.read import LoggedEvent
from kurir.events.tables import events
from kurir.kit.tasks import TaskHealth, Tasks
from kurir.kit.waits import Waits
from kurir.store.database import Database, DatabaseUnavailable

POLL = 3.0
"""Seconds between two polls of the log while a reader waits."""
_AGAIN = 1.0

log = structlog.get_logger(__name__)


class News:
    """What one reader waits for."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def publish(self) -> None:
        """Notifies the reader."""
        self._event.set()

    async def wait(self) -> None:
        """Waits until something was published since the last call returned, possibly nothing for this reader."""
        await self._event.wait()
        self._event.clear()


class Feed:
    """The readers in this process, by account."""

    def __init__(self, database: Database, health: TaskHealth | None = None) -> None:
        self._database = database
        self._readers: dict[int, set[News]] = {}
        self._waited_for = asyncio.Event()
        self._tasks = Tasks(health)
        self.waits = Waits()

    def start(self) -> None:
        """Starts to poll while there are readers."""
        self._tasks.keep("event-feed", self._poll, endless=True)

    async def close(self) -> None:
        """Stops polling; this process's commits still notify readers."""
        await self._tasks.close()

    def publish(self, accounts: Iterable[int]) -> None:
        """Notifies these accounts' readers."""
        for account_id in accounts:
            for reader in self._readers.get(account_id, ()):
                reader.publish()

    def dismiss(self) -> None:
        """Ends all waiting at the stop: readers get what there is."""
        self.waits.dismiss()

    @contextmanager
    def subscribe(self, account_id: int) -> Generator[News]:
        """Subscribes to an account: subscribe first, then read, then wait and read again."""
        news = News()
        self._readers.setdefault(account_id, set()).add(news)
        self._waited_for.set()
        try:
            yield news
        finally:
            readers = self._readers[account_id]
            readers.discard(news)
            if not readers:
                del self._readers[account_id]
            if not self._readers:
                self._waited_for.clear()

    async def follow(
        self, account_id: int, cursor: int, *, types: Collection[EventType] = (), limit: int = 500
    ) -> AsyncGenerator[LoggedEvent]:
        """The account's events after the cursor, and then each new one as it comes, until the process stops or whoever
        iterates has enough."""
        with self.subscribe(account_id) as news:
            while True:
                try:
                    page = await self._database.read(
                        lambda c, at=cursor: read.after(c, account_id, at, limit, types), of=account_id
                    )
                except DatabaseUnavailable as error:
                    log.warning("events_wait_for_database", reason=str(error))
                    await asyncio.sleep(_AGAIN)
                    continue
                for event in page.events:
                    yield event
                cursor = page.cursor
                if page.more:
                    continue
                try:
                    async with self.waits.timeout(None):
                        await news.wait()
                except TimeoutError:
                    return

    async def _poll(self) -> None:
        """Notifies all readers when the log has grown. On a shared database ids of different accounts become visible
        out of order: there all readers are notified each time."""
        seen = -1
        while True:
            await self._waited_for.wait()
            with contextlib.suppress(DatabaseUnavailable):
                newest = await self._database.read(lambda c: c.execute(sa.select(sa.func.max(events.c.id))).scalar())
                if self._database.shared or newest != seen:
                    self.publish(list(self._readers))
                seen = newest
            await asyncio.sleep(POLL * (5 if self._database.shared else 1))
