"""Publishes the progress of broadcasts: accepted, running (in steps of a percent), done.

A broadcast's messages are processed independently of it. So running broadcasts are counted every other second, and the
count is published in the transaction that stores it: each step once, also with several gateways.
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
from kurir.kit.clock import Clock
from kurir.messages.lifecycle import SETTLED
from kurir.numbers.tables import numbers
from kurir.store.database import Database, DatabaseUnavailable

EVERY = 2.0
"""Seconds between two rounds of counting."""
MOST = 50
"""Maximum broadcasts of a round; the next round continues after them."""

log = structlog.get_logger(__name__)


class Count(msgspec.Struct, frozen=True):
    """A running broadcast, how many of its messages were settled when last published, and its messages by state now."""

    broadcast: Broadcast
    number_key: str
    published: int
    counts: Mapping[str, int]

    @property
    def settled(self) -> int:
        """Number of settled messages."""
        return sum(count for state, count in self.counts.items() if state in SETTLED)

    @property
    def over(self) -> bool:
        """Whether all messages are settled."""
        return self.settled == sum(self.counts.values())

    @property
    def worth_publishing(self) -> bool:
        """Whether it has advanced by a percent, or is over."""
        return self.over or self.settled - self.published >= max(1, self.broadcast.recipients // 100)


class Progress:
    """Counts the running broadcasts of all accounts."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._last = 0

    async def follow(self) -> None:
        """Counts periodically until cancelled."""
        while True:
            try:
                await self.publish_all()
            except DatabaseUnavailable as error:
                log.warning("broadcast_progress_deferred", reason=str(error))
            await asyncio.sleep(EVERY)

    async def publish_all(self) -> int:
        """One round; returns how many events it published."""
        counted = await self._database.read(lambda c: _running(c, self._last), pool="lists")
        self._last = counted[-1].broadcast.id if len(counted) == MOST else 0
        published = 0
        for one in counted:
            if one.worth_publishing:
                now = self._clock()
                published += await self._database.write(lambda c, count=one, at=now: _publish(c, count, at))
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


def _running(connection: Connection, after: int) -> list[Count]:
    found = connection.execute(
        sa.select(*COLUMNS, numbers.c.key, broadcasts.c.settled)
        .join(numbers, numbers.c.id == broadcasts.c.number_id)
        .where(broadcasts.c.ended_at.is_(None), broadcasts.c.id > after)
        .order_by(broadcasts.c.id)
        .limit(MOST)
    ).all()
    counts: list[Count] = []
    for row in found:
        *values, number_key, settled = tuple(row)
        broadcast = Broadcast(*values)
        by_state = progress(connection, broadcast.account_id, broadcast.id)
        counts.append(Count(broadcast, number_key, settled, by_state))
    return counts


def _publish(connection: Connection, count: Count, now: float) -> int:
    """Publishes a count, unless another gateway has done so; returns how many events that made."""
    broadcast, over = count.broadcast, count.over
    taken = connection.execute(
        broadcasts.update()
        .where(broadcasts.c.account_id == broadcast.account_id, broadcasts.c.id == broadcast.id)
        .where(broadcasts.c.ended_at.is_(None), broadcasts.c.settled == count.published)
        .values(settled=count.settled, ended_at=now if over else None)
    )
    if taken.rowcount:
        publish(connection, broadcast, count.number_key, "done" if over else "running", count.counts, now=now)
    return taken.rowcount
