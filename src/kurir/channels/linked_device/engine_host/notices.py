"""Sends what a host reports besides journaled events: connection states, pairing steps, problems, counts.

Reporting never waits for the gateway: notices are put into a queue, which a separate thread writes to the news socket.
When the gateway is so far behind that the queue is full, problems and counts are dropped (their number is sent later),
and of a device's states and QR codes only the newest is kept. The steps of a pairing are always kept: there is one of
each for a pairing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from kurir.channels.linked_device.engine_host import threads
from kurir.channels.linked_device.protocol import (
    DeviceNews,
    DeviceState,
    Heartbeat,
    Notice,
    QrShown,
    StoreFailed,
    Trouble,
    Unread,
    sound_frame,
)

MOST = 1_000
"""Maximum queued notices; each has a bounded text, so a few megabytes in total."""
_DROPPED = (Trouble, StoreFailed, Unread, Heartbeat)
_REPLACED = (DeviceState, QrShown)


class _Waiting(NamedTuple):
    news: DeviceNews
    frame: bytes


class Notices:
    """The queue and its thread. `write` sends a frame and may block; it is called on that thread only.

    Raises RuntimeError when no thread can be started.
    """

    def __init__(self, write: Callable[[bytes], None], most: int = MOST) -> None:
        self._write = write
        self._most = most
        self._waiting: deque[_Waiting] = deque()
        self._dropped = 0
        self._changed = threading.Condition()
        # a failure here cannot be reported through itself: the answer to a ping names the thread
        threads.keep("notices", self._run, threading.Event(), lambda _: None)

    def put(self, news: DeviceNews, frame: bytes) -> None:
        """Queues `frame`, which encodes `news`. Never blocks."""
        with self._changed:
            if len(self._waiting) < self._most:
                self._waiting.append(_Waiting(news, frame))
            elif isinstance(news, _DROPPED):
                self._dropped += 1
            else:
                self._make_way(news)
                self._waiting.append(_Waiting(news, frame))
            self._changed.notify()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _make_way(self, news: DeviceNews) -> None:
        """Removes what `news` makes obsolete; the identity in a removed state is in `Paired` as well."""
        if not isinstance(news, _REPLACED):
            return
        kept = [one for one in self._waiting if type(one.news) is not type(news) or one.news.device != news.device]
        self._dropped += len(self._waiting) - len(kept)
        self._waiting = deque(kept)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                frame = self._waiting.popleft().frame
                if self._dropped and len(self._waiting) < self._most // 2:
                    what = f"{self._dropped} notices were dropped while the gateway took none"
                    lost = Trouble(0, what, "notices_dropped")
                    self._waiting.append(_Waiting(lost, sound_frame(Notice(lost))))
                    self._dropped = 0
            self._write(frame)
