"""The queue of all linked devices' events to the inbox: bounded for events of the engine, in order, one consumer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from kurir.messages.channel_reports import Event


class EventStream:
    """A queue that blocks the engine's events when it is full, but never the gateway itself.

    `put` waits while `limit` events are queued, so that the engine waits, and with it WhatsApp's server. `put_now` adds
    the gateway's own connection changes at once, so that no call and no stop waits for the inbox.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: deque[Event] = deque()
        self._changed = asyncio.Condition()
        self._ended = False

    async def put(self, event: Event) -> None:
        """Adds an event once there is room. After `end` it is dropped: it is still in its device's journal."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._ended or len(self._events) < self._limit)
            self._add(event)

    async def put_now(self, event: Event) -> None:
        """Adds an event at once."""
        async with self._changed:
            self._add(event)

    async def end(self) -> None:
        """Ends the stream. Idempotent."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def events(self) -> AsyncIterator[Event]:
        """Every event, in order, until the end. One consumer."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._events or self._ended)
                if not self._events:
                    return
                event = self._events.popleft()
                self._changed.notify_all()
            yield event

    def _add(self, event: Event) -> None:
        if not self._ended:
            self._events.append(event)
            self._changed.notify_all()
