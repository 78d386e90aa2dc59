"""The feed: readers of the event log in this process wait here for new events instead of polling.

A commit in this process notifies the feed of its accounts at once, and so does a notification from another gateway.
Nothing depends on either: the feed also polls the log, once for all readers.

However many readers of an account wait, its new events are read once and handed to those who want them: by one look,
which begins at once after a quiet time, and otherwise gathers what is published within `GATHERED` seconds.
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
from kurir.events.read import LoggedEvent, Page
from kurir.events.tables import events
from kurir.kit.tasks import TaskHealth, Tasks
from kurir.kit.waits import Waits
from kurir.store.database import Database, DatabaseUnavailable, Pool

POLL = 3.0
"""Seconds between two polls of the log while a reader waits."""
GATHERED = 0.02
"""Seconds between two looks for the same account."""
_AT_ONCE = 500
"""Events that one look reads at most; the next one follows at once."""
_AGAIN = 1.0
_NEVER = -1

log = structlog.get_logger(__name__)


class _Account:
    """An account's readers in this process. `published` counts its notifications."""

    def __init__(self, account_id: int) -> None:
        self.id = account_id
        self.readers = 0
        self.waiting: set[Reader] = set()
        self.published = 0
        self.looking = False
        self.next_look = 0.0


class Reader:
    """A reader of one account's events after a cursor, all or of some types; one call of `next` at a time.

    `_behind`: its next page is read for it alone, because it is not at the end of the log. `_seen`: the notification up
    to which it has seen everything.
    """

    def __init__(self, feed: Feed, account: _Account, cursor: int, types: Collection[EventType], limit: int) -> None:
        self._feed = feed
        self._account = account
        self._cursor = cursor
        self._limit = limit
        self._behind = True
        self._seen = _NEVER
        self._handed: asyncio.Future[Page] | None = None
        self.types = frozenset(types)

    @property
    def cursor(self) -> int:
        """After which event it goes on."""
        return self._cursor

    async def next(self, timeout: float | None) -> Page:
        """The next events, at once where there are some, else as soon as they come; none after `timeout` seconds
        (None: any time) or when the process stops. Raises DatabaseUnavailable."""
        if self._behind:
            seen = self._account.published  # read first: what is published meanwhile is looked for again
            page = await self._feed.page(self._account.id, self._cursor, self.types, self._limit, pool="lists")
            self._cursor, self._behind, self._seen = page.cursor, page.more, seen
            if page.events:
                return page
        self._handed = asyncio.get_running_loop().create_future()
        self._account.waiting.add(self)
        if self._seen != self._account.published:
            self._feed.look(self._account)
        try:
            async with self._feed.waits.timeout(timeout):
                return await self._handed
        except TimeoutError:
            # what was handed over in the same moment is behind the cursor already
            return self._handed.result() if self._handed.done() and not self._handed.cancelled() else self._nothing()
        finally:
            self._account.waiting.discard(self)

    def is_behind(self, published: int) -> bool:
        """Whether it has not seen what that notification was about."""
        return self._seen != published

    def take(self, page: Page, seen: int) -> None:
        """Takes what it wants of a page that begins at its cursor or before, if it still waits."""
        if self._handed is None or self._handed.done():  # its time has just run out: it must not go on behind these
            return
        found = [
            event for event in page.events if event.id > self._cursor and (not self.types or event.type in self.types)
        ]
        self._behind = len(found) > self._limit
        found = found[: self._limit]
        self._cursor = found[-1].id if self._behind else max(self._cursor, page.cursor)
        self._seen = _NEVER if page.more else seen
        if found:
            self._account.waiting.discard(self)
            self._handed.set_result(Page(found, self._cursor, self._behind or page.more))

    def _nothing(self) -> Page:
        return Page([], self._cursor, False)


class Feed:
    """The readers in this process, by account."""

    def __init__(self, database: Database, health: TaskHealth | None = None) -> None:
        self._database = database
        self._accounts: dict[int, _Account] = {}
        self._waited_for = asyncio.Event()
        self._tasks = Tasks(health)
        self.waits = Waits()

    def start(self) -> None:
        """Starts to poll while there are readers."""
        self._tasks.keep("event-feed", self._poll, endless=True)

    async def close(self) -> None:
        """Stops polling and looking."""
        await self._tasks.close()

    def publish(self, accounts: Iterable[int]) -> None:
        """These accounts may have new events."""
        for account_id in accounts:
            if (account := self._accounts.get(account_id)) is not None:
                account.published += 1
                self.look(account)

    def dismiss(self) -> None:
        """Ends all waiting at the stop: readers get what there is."""
        self.waits.dismiss()

    @contextmanager
    def subscribe(
        self, account_id: int, cursor: int, *, types: Collection[EventType] = (), limit: int = _AT_ONCE
    ) -> Generator[Reader]:
        """A reader of the account's events after the cursor; `types`: only these (none given: all)."""
        account = self._accounts.setdefault(account_id, _Account(account_id))
        account.readers += 1
        self._waited_for.set()
        try:
            yield Reader(self, account, cursor, types, limit)
        finally:
            account.readers -= 1
            if not account.readers:
                del self._accounts[account_id]
            if not self._accounts:
                self._waited_for.clear()

    async def follow(
        self, account_id: int, cursor: int, *, types: Collection[EventType] = (), limit: int = _AT_ONCE
    ) -> AsyncGenerator[LoggedEvent]:
        """The account's events after the cursor, and then each new one as it comes, until the process stops or whoever
        iterates has enough."""
        with self.subscribe(account_id, cursor, types=types, limit=limit) as reader:
            while True:
                try:
                    page = await reader.next(None)
                except DatabaseUnavailable as error:
                    log.warning("events_wait_for_database", reason=str(error))
                    await asyncio.sleep(_AGAIN)
                    continue
                for event in page.events:
                    yield event
                if not page.events and self.waits.dismissed:
                    return

    async def page(
        self, account_id: int, cursor: int, types: Collection[EventType], limit: int, pool: Pool = "work"
    ) -> Page:
        """The account's events after the cursor, as the log has them now. Raises DatabaseUnavailable."""
        return await self._database.read(
            lambda c: read.after(c, account_id, cursor, limit, types), of=account_id, pool=pool
        )

    def look(self, account: _Account) -> None:
        """Reads the account's new events for its waiting readers, soon."""
        if account.waiting and not account.looking:
            account.looking = True
            self._tasks.spawn("event-look", self._look(account), key=str(account.id))

    async def _look(self, account: _Account) -> None:
        """Looks until all that was published has been read, or nobody waits for it."""
        clock = asyncio.get_running_loop().time
        try:
            while account.waiting:
                if (pause := account.next_look - clock()) > 0:
                    await asyncio.sleep(pause)
                seen = account.published
                behind = [reader for reader in account.waiting if reader.is_behind(seen)]
                if not behind:
                    return
                everything = any(not reader.types for reader in behind)
                types = () if everything else frozenset[EventType]().union(*(reader.types for reader in behind))
                try:
                    page = await self.page(account.id, min(reader.cursor for reader in behind), types, _AT_ONCE)
                except DatabaseUnavailable as error:
                    log.warning("events_wait_for_database", reason=str(error))
                    account.next_look = clock() + _AGAIN
                    continue
                account.next_look = clock() + (0.0 if page.more else GATHERED)
                for reader in behind:
                    reader.take(page, seen)
        finally:
            account.looking = False

    async def _poll(self) -> None:
        """Notifies all readers when the log has grown. On a shared database ids of different accounts become visible
        out of order: there all readers are notified each time."""
        seen = -1
        while True:
            await self._waited_for.wait()
            with contextlib.suppress(DatabaseUnavailable):
                newest = await self._database.read(lambda c: c.execute(sa.select(sa.func.max(events.c.id))).scalar())
                if self._database.shared or newest != seen:
                    self.publish(list(self._accounts))
                seen = newest
            await asyncio.sleep(POLL * (5 if self._database.shared else 1))
