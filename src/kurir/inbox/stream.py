"""A channel's events on their way into the database."""

from __future__ import annotations

import asyncio

from kurir.channels.channel import Channel
from kurir.messages.reports import Event

_GROUP = 500
"""Events that are stored in one transaction at most."""
_WAITING = 2_000
"""Events that may wait here; the channel waits when there are more."""
AGAIN = 10.0
"""Seconds after which what could be neither stored nor set aside is tried again."""


class Stream:
    """What a channel gave and is not stored yet; outlives a failure of whoever stores it.

    `kept` could be neither stored nor set aside: the channel keeps it too, and it is tried again.
    """

    def __init__(self) -> None:
        self.kept: list[Event] = []
        self.group: list[Event | None] = []
        self.gatherer: asyncio.Task[None] | None = None
        self._waiting: asyncio.Queue[Event | None] = asyncio.Queue(_WAITING)

    async def gather(self, channel: Channel) -> None:
        """Takes the channel's events until it is closed; None stands for the end."""
        try:
            async for event in channel.events():
                await self._waiting.put(event)
        finally:
            await self._waiting.put(None)

    async def next_group(self) -> list[Event | None]:
        """What waits: at least one, unless something is kept, which is due again after `AGAIN` seconds."""
        if len(self.kept) >= _WAITING:  # then it is no single event's fault, and the channel has to wait
            await asyncio.sleep(AGAIN)
            return []
        try:
            async with asyncio.timeout(AGAIN if self.kept else None):
                group = [await self._waiting.get()]
        except TimeoutError:
            return []
        while len(group) < _GROUP and not self._waiting.empty():
            group.append(self._waiting.get_nowait())
        return group
