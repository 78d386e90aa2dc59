"""Publishes the progress of broadcasts: accepted, running (in steps of a percent), done.

A broadcast's messages are processed independently of it. So running broadcasts are looked at every other second. Those
whose number has new message states in the event log are counted, and the count is published in the transaction that
stores it: each step once, also with several gateways.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Literal

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy import Connection

from kurir.broadcasts.broadcasts import COLUMNS, Broadcast, progress
from kurir.broadcasts.tables import broadcasts
from kurir.events.append import append
from kurir.events.bodies import BroadcastStatus
from kurir.events.tables import events
from kurir.kit.clock import Clock
from kurir.messages.lifecycle import SETTLED
from kurir.numbers.tables import numbers
from kurir.store.database import Database, DatabaseUnavailable

EVERY = 2.0
"""Seconds between two rounds."""
COUNT_EVERY = 60.0
"""Seconds after which a broadcast is counted whatever the event log has: an event that could not be encoded is not in
it."""
MOST = 50
"""Maximum broadcasts of a round; the next round continues after them."""

log = structlog.get_logger(__name__)


class Count(msgspec.Struct, frozen=True):
    """A running broadcast, how many of its messages were settled when last published, and its messages by state now.

    `doubted`: how many of them are unconfirmed but may still go out once more by themselves.
    """

    broadcast: Broadcast
    number_key: str
    published: int
    counts: Mapping[str, int]
    doubted: int

    @property
    def settled(self) -> int:
        """Number of settled messages: nothing more is sent of them unless a person replays one."""
        return sum(count for state, count in self.counts.items() if state in SETTLED) - self.doubted

    @property
    def over(self) -> bool:
        """Whether all messages are settled."""
        return self.settled == sum(self.counts.values())

    @property
    def worth_publishing(self) -> bool:
        """Whether it has advanced by a percent, or is over."""
        return self.over or self.settled - self.published >= max(1, self.broadcast.recipients // 100)


class Counted(msgspec.Struct, frozen=True):
    """When a broadcast was counted (unix seconds), and the cursor up to which the event log says nothing new of it."""

    at: float
    cursor: int


class Round(msgspec.Struct, frozen=True):
    """A look at running broadcasts: those that were counted, what to remember of each, and after which id the next
    round continues."""

    counts: list[Count]
    counted: dict[int, Counted]
    last: int


class Progress:
    """Counts the running broadcasts of all accounts that have advanced."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._last = 0
        self._counted: dict[int, Counted] = {}

    async def follow(self) -> None:
        """Runs a round periodically until cancelled."""
        while True:
            try:
                await self.publish_all()
            except DatabaseUnavailable as error:
                log.warning("broadcast_progress_deferred", reason=str(error))
            await asyncio.sleep(EVERY)

    async def publish_all(self) -> int:
        """One round; returns how many events it published."""
        after, known, now = self._last, self._counted, self._clock()
        found = await self._database.read(lambda c: _round(c, after, known, now), pool="lists")
        self._last = found.last
        published, counted = 0, dict(found.counted)
        for one in found.counts:
            if one.worth_publishing:
                now = self._clock()
                taken = await self._database.write(lambda c, count=one, at=now: _publish(c, count, at))
                published += taken
                if not taken:  # another gateway has published, perhaps an earlier count: the next round counts again
                    del counted[one.broadcast.id]
        passed = {one for one in known if one > after and (one <= found.last or not found.last)}
        self._counted = {one: known[one] for one in known.keys() - passed} | counted
        return published


def publish(
    connection: Connection,
    broadcast: Broadcast,
    number_key: str,
    status: Literal["accepted", "running", "done"],
    counts: Mapping[str, int],
    *,
    now: float,
) -> None:
    """Appends a broadcast's progress; `counts` are its messages by state."""
    body = BroadcastStatus(
        bc_id=broadcast.key,
        number_id=number_key,
        template_name=broadcast.template_name,
        status=status,
        recipients=broadcast.recipients,
        counts=dict(counts),
        timestamp=int(now),
    )
    append(connection, broadcast.account_id, broadcast.number_id, "broadcast_status", "", body=lambda: body, now=now)


def _round(connection: Connection, after: int, known: Mapping[int, Counted], now: float) -> Round:
    newest = sa.select(sa.func.max(events.c.id)).where(events.c.account_id == broadcasts.c.account_id)
    running = connection.execute(
        sa.select(*COLUMNS, numbers.c.key, broadcasts.c.settled, newest.scalar_subquery())
        .join(numbers, numbers.c.id == broadcasts.c.number_id)
        .where(broadcasts.c.ended_at.is_(None), broadcasts.c.id > after)
        .order_by(broadcasts.c.id)
        .limit(MOST)
    ).all()
    counts: list[Count] = []
    counted: dict[int, Counted] = {}
    moved: dict[tuple[int, int], bool] = {}
    for row in running:
        *values, number_key, settled, end = tuple(row)
        broadcast, cursor = Broadcast(*values), end or 0
        before = known.get(broadcast.id)
        if before is not None and now - before.at < COUNT_EVERY:
            since = (broadcast.number_id, before.cursor)
            if since not in moved:
                moved[since] = before.cursor != cursor and _has_moved(connection, broadcast, before.cursor)
            if not moved[since]:
                counted[broadcast.id] = Counted(before.at, cursor)
                continue
        found = progress(connection, broadcast.account_id, broadcast.id, now)
        counts.append(Count(broadcast, number_key, settled, found.by_state, found.doubted))
        counted[broadcast.id] = Counted(now, cursor)
    return Round(counts, counted, running[-1].id if len(running) == MOST else 0)


def _has_moved(connection: Connection, broadcast: Broadcast, cursor: int) -> bool:
    """Whether messages of the broadcast's number have changed their state since that cursor."""
    since = sa.select(events.c.id).where(
        events.c.account_id == broadcast.account_id,
        events.c.id > cursor,
        events.c.number_id == broadcast.number_id,
        events.c.type == "message_status",
    )
    return connection.execute(since.limit(1)).first() is not None


def _publish(connection: Connection, count: Count, now: float) -> int:
    """Publishes a count, unless another gateway has done so; returns how many events that made."""
    broadcast = count.broadcast
    # counted again here: messages have moved since, and what the log says before this event must not contradict it
    found = progress(connection, broadcast.account_id, broadcast.id, now)
    count = Count(broadcast, count.number_key, count.published, found.by_state, found.doubted)
    over = count.over
    taken = connection.execute(
        broadcasts.update()
        .where(broadcasts.c.account_id == broadcast.account_id, broadcasts.c.id == broadcast.id)
        .where(broadcasts.c.ended_at.is_(None), broadcasts.c.settled == count.published)
        .values(settled=count.settled, ended_at=now if over else None)
    )
    if taken.rowcount:
        publish(connection, broadcast, count.number_key, "done" if over else "running", count.counts, now=now)
    return taken.rowcount
