"""A channel's events on their way into the database."""

from __future__ import annotations

import asyncio

from kurir.channels.channel import Channel
from kurir.messages.reports import Event

_GROUP = 500
"""Events that are stored in one transaction at most."""
_WAITING = 2_000
"""Events that may wait here; the channel waits when there are more."""


class Stream:
    """What a channel gave and is not stored yet; outlives a failure of whoever stores it."""

    def __init__(self) -> None:
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
        """What waits, at least one."""
        group = [await self._waiting.get()]
        while len(group) < _GROUP and not self._waiting.empty():
            group.append(self._waiting.get_nowait())
        return group
