"""The queue of a channel's events before they are stored."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Hashable, Sequence

import msgspec

from kurir.channels.channel import Channel
from kurir.messages.channel_reports import ConnectionChanged, Event

_GROUP = 500
"""Maximum events stored in one transaction."""
_WAITING = 2_000
"""Maximum events that wait here; beyond that the channel waits."""
AGAIN = 10.0
"""Seconds until events that could be neither stored nor quarantined are retried."""
_AGAIN_AT_ONCE = 20
"""Maximum of those retried between two groups: each may take several transactions."""


class Stream:
    """A channel's events that are not stored yet; survives a failure of the task that stores them.

    Events that could be neither stored nor quarantined are kept here (and in the channel's journal, if it has one) and
    retried separately, so that they block no others. Of a number's states only the latest is kept.
    """

    def __init__(self) -> None:
        self.group: list[Event | None] = []
        self.gatherer: asyncio.Task[None] | None = None
        self._waiting: asyncio.Queue[Event | None] = asyncio.Queue(_WAITING)
        self._kept: dict[Hashable, tuple[float, Event]] = {}
        """In the order of their next attempts, with its monotonic time."""

    @property
    def kept(self) -> int:
        """Number of events that could be neither stored nor quarantined."""
        return len(self._kept)

    async def gather(self, channel: Channel) -> None:
        """Queues the channel's events until it is closed; None marks the end."""
        try:
            async for event in channel.events():
                await self._waiting.put(event)
        finally:
            await self._waiting.put(None)

    async def next_group(self) -> list[Event | None]:
        """The waiting events: at least one, or none when a retry is due."""
        due_in = None if not self._kept else max(0.0, next(iter(self._kept.values()))[0] - time.monotonic())
        if due_in is not None and self.kept >= _WAITING:  # no single event causes it, and the channel has to wait
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
        """A few kept events whose retry is due."""
        now = time.monotonic()
        ready = itertools.takewhile(lambda kept: kept[0] <= now, self._kept.values())
        return [event for _, event in itertools.islice(ready, _AGAIN_AT_ONCE)]

    def tried(self, events: Sequence[Event], nowhere: Sequence[Event]) -> list[Event]:
        """Records an attempt to store `events`: keeps those that are `nowhere`, returns the others."""
        lost, again_at = set(map(id, nowhere)), time.monotonic() + AGAIN
        for event in events:
            key = _key(event)
            _, before = self._kept.pop(key, (0.0, None))
            complete = _with_pairing(event, before)
            if id(event) in lost or complete != event:  # stored, but without the content of the kept one
                self._kept[key] = (again_at, complete)
        return [event for event in events if id(event) not in lost]


def _key(event: Event) -> Hashable:
    """The key of a kept event: a channel may send one twice, and a number's newer state replaces the older."""
    if isinstance(event, ConnectionChanged):
        return event.number_id
    entry = getattr(event, "entry", 0)
    return (event.number_id, type(event), entry) if entry else repr(event)


def _with_pairing(event: Event, before: Event | None) -> Event:
    """The state, with the new pairing that an earlier kept one reported."""
    if not isinstance(event, ConnectionChanged) or not isinstance(before, ConnectionChanged):
        return event
    if event.state == "logged_out":
        return event
    return msgspec.structs.replace(event, phone=event.phone or before.phone, jid=event.jid or before.jid)
