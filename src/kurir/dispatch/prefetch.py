"""Fetches pictures and files before their messages are claimed.

A message whose file is missing stays queued: it can be paused, canceled and expire, it occupies no place in flight, and
an interrupted fetch leaves no doubt. It may be claimed once its file is stored or the fetch has failed.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from urllib.parse import urlsplit

import structlog

from kurir.kit.tasks import Tasks
from kurir.media.store import MediaStore
from kurir.messages.channel_reports import Outcome, Refused
from kurir.messages.content import Document, Image, MediaFile
from kurir.outbox.message_rows import FileAhead
from kurir.reasons.media import NOT_PREPARED

_EVERY = 0.25
"""Seconds between two polls for files while messages leave or fetches run: a new file waits at most this long, and a
host that refuses at once is asked `_OF_ONE_HOST` times per interval."""
_GATHERED = 0.1
"""Seconds in which failed fetches are collected into one notification."""
FILES_AHEAD = 32
"""How many files of a number are fetched at once, and how many may be stored before their messages are sent."""
_OF_ONE_HOST = 8
"""How many of them from one host, so that a host that hangs leaves places for others."""
_KEPT = 4 * FILES_AHEAD
"""How many messages are remembered as ready; for those beyond, the file is looked up again."""

log = structlog.get_logger(__name__)


class Prefetch:
    """The fetches of one number; `wake` is called whenever one has ended."""

    def __init__(self, account_id: int, media: MediaStore, tasks: Tasks, wake_event: Callable[[], None]) -> None:
        self._account_id = account_id
        self._media = media
        self._tasks = tasks
        self._wake_event = wake_event
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._hosts: Counter[str] = Counter()
        self._ready: dict[int, Outcome | None] = {}
        self._looked_at = float("-inf")
        self._wake: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether a file is being fetched."""
        return bool(self._under_way)

    def ready(self) -> tuple[int, ...]:
        """Messages that may be claimed: their file is stored, or `take` returns why not."""
        return tuple(self._ready)

    def failed(self) -> tuple[int, ...]:
        """Those of the `ready` messages whose file could not be fetched."""
        return tuple(message_id for message_id, outcome in self._ready.items() if outcome is not None)

    def fetching(self) -> tuple[int, ...]:
        """Messages whose files are being fetched."""
        return tuple(self._under_way)

    def pause(self) -> float:
        """Seconds until the next poll for needed files, 0 when it is due."""
        return max(0.0, self._looked_at + _EVERY - time.monotonic())

    def begin(self, needed: Sequence[FileAhead], given_up: Collection[int] = ()) -> None:
        """Fetches what is needed, not ready and not in progress, within the bounds; ends the fetches of `given_up`."""
        self._looked_at = time.monotonic()
        for message_id in given_up:
            if (task := self._under_way.get(message_id)) is not None:
                task.cancel()
        ahead = sum(one.id in self._ready for one in needed)
        for one in needed:
            if one.id in self._under_way or one.id in self._ready:
                continue
            if not isinstance(one.content, Image | Document):
                self._answer(one.id, None)  # there is nothing to fetch; the send reports why
                continue
            host = urlsplit(one.content.url).netloc
            if len(self._under_way) + ahead < FILES_AHEAD and self._hosts[host] < _OF_ONE_HOST:
                self._hosts[host] += 1
                task = self._tasks.spawn("fetch", self._fetch(one.id, one.content), key=str(one.id))
                self._under_way[one.id] = task
                task.add_done_callback(functools.partial(self._ended, one.id, host))

    def take(self, message_id: int) -> Outcome | None:
        """The outcome for the message when its file could not be fetched, else None. Forgets the message."""
        return self._ready.pop(message_id, None)

    async def close(self) -> None:
        """Ends all fetches and waits for their end; their messages stay queued."""
        if self._wake is not None:
            self._wake.cancel()
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _fetch(self, message_id: int, content: Image | Document) -> None:
        try:
            prepared = await self._media.prepare(self._account_id, message_id, content)
        except Exception:
            log.exception("media_failed", message_id=message_id)
            prepared = Refused("media_failed", NOT_PREPARED())
        if isinstance(prepared, MediaFile):
            self._looked_at = float("-inf")  # others may use its place at once
            self._answer(message_id, None)
        else:
            self._answer(message_id, prepared)

    def _answer(self, message_id: int, outcome: Outcome | None) -> None:
        self._ready[message_id] = outcome
        while len(self._ready) > _KEPT:
            del self._ready[next(iter(self._ready))]
        if outcome is None:
            self._wake_event()
        elif self._wake is None:
            self._wake = asyncio.get_running_loop().call_later(_GATHERED, self._wake_up)

    def _wake_up(self) -> None:
        self._wake = None
        self._wake_event()

    def _ended(self, message_id: int, host: str, _task: asyncio.Task[None]) -> None:
        del self._under_way[message_id]
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]
