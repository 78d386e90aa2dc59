"""A channel's events on their way into the database."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Hashable, Sequence

import msgspec

from kurir.channels.channel import Channel
from kurir.messages.channel_reports import ConnectionChanged, Event

_GROUP = 500
"""Events that are stored in one transaction at most."""
_WAITING = 2_000
"""Events that may wait here; the channel waits when there are more."""
AGAIN = 10.0
"""Seconds after which what could be neither stored nor set aside is tried again."""
_AGAIN_AT_ONCE = 20
"""How many of those are tried between two groups at most: each may take several transactions."""


class Stream:
    """What a channel gave and is not stored yet; outlives a failure of whoever stores it.

    What could be neither stored nor set aside is kept here (the channel keeps it too, if it has a journal) and tried
    again by itself, so that whatever else comes goes its way. Of a number's states only the last is kept.
    """

    def __init__(self) -> None:
        self.group: list[Event | None] = []
        self.gatherer: asyncio.Task[None] | None = None
        self._waiting: asyncio.Queue[Event | None] = asyncio.Queue(_WAITING)
        self._kept: dict[Hashable, tuple[float, Event]] = {}
        """In the order of their next tries, with the monotonic time of it."""

    @property
    def kept(self) -> int:
        """How many events could be neither stored nor set aside so far."""
        return len(self._kept)

    async def gather(self, channel: Channel) -> None:
        """Takes the channel's events until it is closed; None stands for the end."""
        try:
            async for event in channel.events():
                await self._waiting.put(event)
        finally:
            await self._waiting.put(None)

    async def next_group(self) -> list[Event | None]:
        """What waits: at least one, or none when something is due again."""
        due_in = None if not self._kept else max(0.0, next(iter(self._kept.values()))[0] - time.monotonic())
        if due_in is not None and self.kept >= _WAITING:  # it is no single event's fault, and the channel has to wait
            await asyncio.sleep(due_in)
            return []
        try:
            async with asyncio.timeout(due_in):
                group = [await self._waiting.get()]
        except TimeoutError:
            return []
        while len(group) < _GROUP and not self._waiting.empty():
            group.append(self._waiting.get_nowait())
        return group

    def due(self) -> list[Event]:
        """A few events that were kept and are to be tried again now."""
        now = time.monotonic()
        ready = itertools.takewhile(lambda kept: kept[0] <= now, self._kept.values())
        return [event for _, event in itertools.islice(ready, _AGAIN_AT_ONCE)]

    def tried(self, events: Sequence[Event], nowhere: Sequence[Event]) -> list[Event]:
        """Notes how a try of `events` ended: keeps those that are `nowhere`, returns the others."""
        lost, again_at = set(map(id, nowhere)), time.monotonic() + AGAIN
        for event in events:
            key = _key(event)
            _, before = self._kept.pop(key, (0.0, None))
            complete = _with_pairing(event, before)
            if id(event) in lost or complete != event:  # stored, but without what the kept one had to say
                self._kept[key] = (again_at, complete)
        return [event for event in events if id(event) not in lost]


def _key(event: Event) -> Hashable:
    """What tells kept events apart: a channel may tell one twice, and a number's newer state is all there is to say."""
    if isinstance(event, ConnectionChanged):
        return event.number_id
    entry = getattr(event, "entry", 0)
    return (event.number_id, type(event), entry) if entry else repr(event)


def _with_pairing(event: Event, before: Event | None) -> Event:
    """The state, with what a kept one of before said of a new pairing."""
    if not isinstance(event, ConnectionChanged) or not isinstance(before, ConnectionChanged):
        return event
    if event.state == "logged_out":
        return event
    return msgspec.structs.replace(event, phone=event.phone or before.phone, jid=event.jid or before.jid)
