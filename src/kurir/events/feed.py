"""The feed: readers of the event log in this process wait here for news instead of asking again and again.

A commit in this process wakes the readers of its accounts at once; a notification does so for another gateway's.
Nothing depends on either: the feed also looks by itself, once for all who wait, for what other programs have written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
import structlog

from kurir.events import read
from kurir.events.bodies import EventType
from kurir.events.read import LoggedEvent
from kurir.events.tables import events
from kurir.kit.tasks import TaskHealth, Tasks
from kurir.store.database import Database, DatabaseUnavailable

POLL = 3.0
"""Seconds between two looks at the log while somebody waits."""
_AGAIN = 1.0

log = structlog.get_logger(__name__)


class News:
    """What one reader waits for."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def publish(self) -> None:
        """There may be something new."""
        self._event.set()

    async def wait(self) -> None:
        """Returns when something was published since the last call returned; it may be nothing for this reader."""
        await self._event.wait()
        self._event.clear()


class Feed:
    """Who in this process waits for news of which account."""

    def __init__(self, database: Database, health: TaskHealth | None = None) -> None:
        self._database = database
        self._readers: dict[int, set[News]] = {}
        self._waited_for = asyncio.Event()
        self._tasks = Tasks(health)

    def start(self) -> None:
        """Begins to look by itself while there are readers."""
        self._tasks.keep("event-feed", self._poll, endless=True)

    async def close(self) -> None:
        """Looks no more; readers go on to hear of this process's commits."""
        await self._tasks.close()

    def publish(self, accounts: Iterable[int]) -> None:
        """These accounts have new events."""
        for account_id in accounts:
            for reader in self._readers.get(account_id, ()):
                reader.publish()

    @contextmanager
    def subscribe(self, account_id: int) -> Iterator[News]:
        """News of an account from now on: subscribe first, then read, then wait and read again."""
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
    ) -> AsyncIterator[LoggedEvent]:
        """The account's events after the cursor, and then each new one as it comes, for as long as it is iterated."""
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
                if not page.more:
                    await news.wait()

    async def _poll(self) -> None:
        """Wakes everybody when the log has grown. Shared databases have gateways whose ids come out of order between
        accounts: there everybody looks again each time."""
        seen = -1
        while True:
            await self._waited_for.wait()
            with contextlib.suppress(DatabaseUnavailable):
                newest = await self._database.read(lambda c: c.execute(sa.select(sa.func.max(events.c.id))).scalar())
                if self._database.shared or newest != seen:
                    self.publish(list(self._readers))
                seen = newest
            await asyncio.sleep(POLL * (5 if self._database.shared else 1))
