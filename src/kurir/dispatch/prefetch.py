"""Fetches pictures and files before their messages are claimed.

A message whose file is not there waits in the queue: it can be paused, canceled and expire there, it takes no place in
flight, and an interrupted fetch leaves no doubt. Once its file is stored, or the fetch has failed, it may be claimed.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence

import structlog

from kurir.channels.media import MediaStore
from kurir.foundation.tasks import Tasks
from kurir.messages.content import Document, Image, MediaFile
from kurir.messages.reports import Outcome, Refused
from kurir.outbox.rows import FileAhead

_EVERY = 1.0
"""Seconds between two looks for files while messages leave without a pause."""

log = structlog.get_logger(__name__)


class Prefetch:
    """The fetches of one number; `woken` is called whenever one has ended."""

    def __init__(self, account_id: int, media: MediaStore, tasks: Tasks, woken: Callable[[], None]) -> None:
        self._account_id = account_id
        self._media = media
        self._tasks = tasks
        self._woken = woken
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._answers: dict[int, Outcome | None] = {}
        self._looked_at = float("-inf")

    @property
    def busy(self) -> bool:
        """Whether a file is being fetched."""
        return bool(self._under_way)

    def answered(self) -> tuple[int, ...]:
        """The messages that may be claimed without a file, as `take` knows what became of it."""
        return tuple(self._answers)

    def is_due(self) -> bool:
        """Whether it is time to look which files are needed, although messages are leaving."""
        return time.monotonic() - self._looked_at >= _EVERY

    def begin(self, needed: Sequence[FileAhead]) -> None:
        """Fetches what is needed and not under way; forgets what became of files that are no longer needed."""
        self._looked_at = time.monotonic()
        self._answers = {one.id: self._answers[one.id] for one in needed if one.id in self._answers}
        for one in needed:
            if one.id in self._under_way or one.id in self._answers:
                continue
            if isinstance(one.content, Image | Document):
                task = self._tasks.spawn("fetch", self._fetch(one.id, one.content), key=str(one.id))
                self._under_way[one.id] = task
                task.add_done_callback(functools.partial(self._ended, one.id))
            else:
                self._answers[one.id] = None  # there is nothing to fetch; whoever sends it finds out why
                self._woken()

    def take(self, message_id: int) -> Outcome | None:
        """What became of the message's file when it could not be fetched, once; else None."""
        return self._answers.pop(message_id, None)

    def cancel(self) -> None:
        """Ends all fetches; their messages are in the queue."""
        for task in self._under_way.values():
            task.cancel()

    async def _fetch(self, message_id: int, content: Image | Document) -> None:
        try:
            prepared = await self._media.prepare(self._account_id, message_id, content)
        except Exception:
            log.exception("media_broke", message_id=message_id)
            prepared = Refused("media_failed", "the file could not be prepared (see the gateway's log)")
        if not isinstance(prepared, MediaFile):
            self._answers[message_id] = prepared

    def _ended(self, message_id: int, _task: asyncio.Task[None]) -> None:
        del self._under_way[message_id]
        self._woken()
