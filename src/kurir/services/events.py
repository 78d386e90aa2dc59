"""The event log of an account, for readers outside: what happened after a cursor, and what happens from now on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import aclosing

from kurir.events import read
from kurir.events.bodies import EVENT_TYPES, EventType
from kurir.events.feed import Feed
from kurir.events.read import LoggedEvent, Page
from kurir.reasons.administration import CURSOR_AHEAD, ONE_OF, RANGE
from kurir.services.errors import Invalid
from kurir.store.database import Database

MOST = 500
"""Events of one page."""
LONGEST_WAIT = 25.0
"""Seconds that a reader may wait for news: proxies end requests that take longer."""


class Events:
    """The events of all accounts. Raises DatabaseUnavailable throughout."""

    def __init__(self, database: Database, feed: Feed) -> None:
        self._database = database
        self._feed = feed

    async def newest(self, account_id: int) -> int:
        """The cursor after which only what is yet to happen comes."""
        return await self._database.read(lambda c: read.newest(c, account_id), of=account_id)

    async def after(
        self, account_id: int, cursor: int, *, types: Collection[str] = (), limit: int = 100, wait: float = 0.0
    ) -> Page:
        """The account's events after the cursor, oldest first; `types`: only these (none given: all).

        Waits up to `wait` seconds for the first one. Raises Invalid, also for a cursor beyond the end of the log: with
        it a reader would wait for events that are years away, or for ever.
        """
        if not 1 <= limit <= MOST:
            raise Invalid("limit", RANGE(least=1, most=MOST))
        wanted = _checked(types)
        await self._check_cursor(account_id, cursor)
        if wait <= 0:
            return await self._feed.page(account_id, cursor, wanted, limit, pool="lists")
        with self._feed.subscribe(account_id, cursor, types=wanted, limit=limit) as reader:
            return await reader.next(min(wait, LONGEST_WAIT))

    def follow(self, account_id: int, cursor: int, *, types: Collection[str] = ()) -> AsyncIterator[LoggedEvent]:
        """The account's events after the cursor, then each new one as it comes, for as long as it is iterated.

        Raises Invalid for types now, for a cursor beyond the end of the log when the first event is asked for.
        """
        return self._followed(account_id, cursor, _checked(types))

    async def _followed(
        self, account_id: int, cursor: int, types: Collection[EventType]
    ) -> AsyncGenerator[LoggedEvent]:
        await self._check_cursor(account_id, cursor)
        async with aclosing(self._feed.follow(account_id, cursor, types=types)) as events:
            async for event in events:
                yield event

    async def _check_cursor(self, account_id: int, cursor: int) -> None:
        if cursor and await self._database.read(lambda c: read.is_ahead(c, cursor), of=account_id, pool="lists"):
            raise Invalid("after", CURSOR_AHEAD())


def _checked(types: Collection[str]) -> list[EventType]:
    known: dict[str, EventType] = {one: one for one in EVENT_TYPES}
    if any(one not in known for one in types):
        raise Invalid("types", ONE_OF(words=", ".join(EVENT_TYPES)))
    return [known[one] for one in types]
