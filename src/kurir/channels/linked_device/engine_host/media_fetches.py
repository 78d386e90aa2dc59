"""Fetches the media of a device's received messages, beside the messages and without delaying them.

A message is stored first, its media `pending`. Its journal entry then stays as a fetch, with a bounded number of
attempts within a day, over restarts too, until the file is stored or given up. An entry that cannot be read is
postponed like any other attempt, and quarantined after a few, so that it does not block the others. A call into the
engine cannot be interrupted: one that exceeds the timeout counts as failed and no longer occupies a slot; its late
result is still used. How many such calls may hang is limited for the device and for the whole process.

More than 300 lines: the fetch's states, attempts and limits share one lock.
"""

from __future__ import annotations

import hashlib
import mimetypes
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
from neonize.exc import NeonizeError
from neonize.proto.Neonize_pb2 import JID
from neonize.proto.Neonize_pb2 import Message as MessageEvent

from kurir.channels.linked_device.engine_host import threads
from kurir.channels.linked_device.engine_host.incoming_messages import DeviceContext, pending, quarantined
from kurir.channels.linked_device.engine_host.journal import Entry, Journal
from kurir.channels.linked_device.engine_host.protobufs import interpret, message_of, unwrapped
from kurir.channels.linked_device.protocol import Emit, Open
from kurir.kit.disk_reserve import PIECE, DiskNearlyFull, DiskReserve
from kurir.kit.log_limit import LogLimit
from kurir.messages import bounds
from kurir.messages.channel_reports import IncomingMedia, MediaFetched, Quarantined
from kurir.reasons import NOTHING, Reason, stored
from kurir.reasons import media as reasons

SLOTS = 4
"""Fetches of one device at once."""
HANGING = 8
"""Calls of one device that may exceed their timeout; beyond that nothing more is fetched until one returns."""
PROCESS_CALLS = 64
"""Fetches of all devices of a process, hanging ones included."""
PAUSES = (5.0, 30.0, 120.0, 600.0, 1_800.0, 7_200.0, 21_600.0, 43_200.0)
"""Seconds from one attempt to the next; after the last the media are given up."""
UNREAD_TRIES = 3
"""Attempts after which an entry that cannot be read is quarantined."""
_FINAL = ("no url present", "find any attachments", "status code 403", "status code 404", "status code 410")
"""Parts of the engine's errors that are permanent."""


class Limits(NamedTuple):
    """`size`: bytes of the largest file; `seconds`: for one attempt; `pauses` between attempts; `calls`: concurrent
    fetches of the whole process (one limit for all devices); `reserve`: bytes of the disk as in `DiskReserve`.

    `longest`: seconds after which media are given up in any case; WhatsApp keeps files for some weeks, but people read
    today. `look_again`: seconds between two looks when nothing calls for one. `no_room_pause`: seconds until a file for
    which the disk has no room is looked at again; that counts as no attempt.
    """

    size: int
    seconds: float
    pauses: tuple[float, ...] = PAUSES
    calls: threading.Semaphore = threading.BoundedSemaphore(PROCESS_CALLS)
    reserve: int = 0
    longest: float = 86_400.0
    look_again: float = 1.0
    no_room_pause: float = 30.0


class MediaFetches:
    """The fetches of one device, from its opening to its closing."""

    def __init__(self, order: Open, device: DeviceContext, emit: Emit, journal: Journal, limits: Limits) -> None:
        self._order = order
        self._device = device
        self._emit = emit
        self._journal = journal
        self._limits = limits
        self._reserve = DiskReserve(Path(order.incoming), limits.reserve)
        self._full = LogLimit()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._online = False
        self._owner = ""
        self._began: dict[int, float] = {}
        """Calls in progress by entry, with the monotonic time of their start."""
        self._over: set[int] = set()
        """Entries whose result was sent to the gateway."""

    def start(self, job: Callable[[], None]) -> None:
        """Starts to fetch whatever is due while the device is online; `job` is called every second or so beside it."""
        name = f"fetches-{self._order.device}"
        threads.keep(name, lambda: self._run(job), self._closing, self._device.report)

    def online(self, owner: str, *, connected: bool) -> None:
        """Sets whether the device is connected, which fetching requires, and its phone number."""
        with self._changed:
            self._online, self._owner = connected, owner or self._owner
            self._changed.notify_all()

    def look(self) -> None:
        """Notifies the thread that something may be due."""
        with self._changed:
            self._changed.notify_all()

    def has_ended(self, entry_id: int) -> bool:
        """Whether this entry's result was sent to the gateway."""
        with self._changed:
            return entry_id in self._over

    def stored(self, entry_ids: Iterable[int]) -> None:
        """The results of these entries are in the database, and the entries are no longer in the journal."""
        with self._changed:
            self._over.difference_update(entry_ids)

    def closing(self) -> None:
        """Starts nothing more; hanging calls are ignored."""
        with self._changed:
            self._closing.set()
            self._changed.notify_all()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _run(self, job: Callable[[], None]) -> None:
        while True:
            job()
            with self._changed:
                if self._closing.is_set():
                    return
                free = self._online and self._free()
                besides = [*self._began, *self._over]
            try:
                if free and self._begin_next(besides):
                    continue
            except sqlite3.Error as error:  # usually a full disk: the next poll retries
                self._device.report(f"media of a received message: {type(error).__name__}: {error}")
            with self._changed:
                if not self._closing.is_set():
                    self._changed.wait(self._limits.look_again)

    def _begin_next(self, besides: list[int]) -> bool:
        """Starts the fetch that is overdue the longest; False when nothing is due or there is no room. Raises
        sqlite3.Error."""
        entry = self._journal.due_fetch(time.time(), besides)
        if entry is None:
            return False
        try:
            return self._begin(entry)
        except sqlite3.Error:
            raise
        except Exception as error:
            self._failed(entry, error)
            return True

    def _failed(self, entry: Entry, error: Exception) -> None:
        """Postpones an entry that could not be read, so that others come first, or quarantines it. Raises
        sqlite3.Error."""
        reason = f"{type(error).__name__}: {error}"
        self._device.report(f"media of a received message: {reason}")
        # on disk first, also when it is quarantined: if the gateway does not take that, it is retried after the pause
        self._journal.begin_fetch(entry.id, time.time() + self._pause(entry))
        if entry.tries + 1 >= UNREAD_TRIES:
            self._quarantine(entry, f"its media cannot be fetched: {reason}")

    def _pause(self, entry: Entry) -> float:
        return self._limits.pauses[min(entry.tries, len(self._limits.pauses) - 1)]

    def _free(self) -> bool:
        late = time.monotonic() - self._limits.seconds
        hanging = sum(began < late for began in self._began.values())
        return hanging < HANGING and len(self._began) - hanging < SLOTS

    def _begin(self, entry: Entry) -> bool:
        """Starts an attempt, or ends the fetch; False when there is no room for it in this process."""
        if hopeless := self._hopeless(entry):
            self._finish(entry, None, hopeless)
            return True
        if not self._has_room(entry):
            self._say_full()
            self._journal.put_off_fetch(entry.id, time.time() + self._limits.no_room_pause)
            return True
        if not self._limits.calls.acquire(blocking=False):
            return False
        try:
            # counted, and the next attempt postponed, before this one: it may crash the process repeatedly
            self._journal.begin_fetch(entry.id, time.time() + self._pause(entry))
            with self._changed:
                self._began[entry.id] = time.monotonic()
            name = f"fetch-{self._order.device}-{entry.id}"
            threads.spawn(name, lambda: self._try(entry), self._device.report)
        except (sqlite3.Error, RuntimeError) as error:  # no disk or no thread: not caused by the entry
            self._device.report(f"media of a received message: {type(error).__name__}: {error}")
            with self._changed:
                self._began.pop(entry.id, None)
            self._limits.calls.release()
            return False
        return True

    def _hopeless(self, entry: Entry) -> Reason:
        """Why no further attempt is useful; `NOTHING` while one is."""
        if entry.owner and self._owner and entry.owner != self._owner:
            return reasons.GONE_OTHER_PHONE()
        if entry.tries <= len(self._limits.pauses) and time.time() - entry.at <= self._limits.longest:
            return NOTHING
        return reasons.GONE_LATE() if self._has_room(entry) else reasons.GONE_DISK()

    def _has_room(self, entry: Entry) -> bool:
        """Whether the disk has room for the file, as far as its message says how large it is."""
        known = _known(entry)
        announced = known.media.size if known is not None else 0  # an earlier release did not note it
        return announced > self._limits.size or self._reserve.room() >= max(1, announced)

    def _say_full(self) -> None:
        if self._full.is_due():
            self._device.report("received files wait: the disk is nearly full", "no_room")

    def _try(self, entry: Entry) -> None:
        try:
            self._fetch(entry)
        except Exception as error:
            self._device.report(f"media of a received message: {type(error).__name__}: {error}")
        finally:
            self._limits.calls.release()
            with self._changed:
                self._began.pop(entry.id, None)
                self._changed.notify_all()

    def _fetch(self, entry: Entry) -> None:
        event = MessageEvent.FromString(entry.event)
        media = _described(event)
        if media is None or media.size > self._limits.size:
            self._finish(entry, None, reasons.GONE_TOO_LARGE() if media is not None else reasons.GONE_NO_FILE())
            return
        try:
            data = self._device.download(unwrapped(message_of(event)))
        except NeonizeError as error:
            self._device.report(f"media of a received message: {error}")
            if any(words in str(error) for words in _FINAL):
                self._finish(entry, None, reasons.GONE_AT_WHATSAPP())
            return
        if not data or len(data) > self._limits.size:
            self._finish(entry, None, reasons.GONE_TOO_LARGE() if data else reasons.GONE_EMPTY())
            return
        try:
            self._finish(entry, self._stored(event, media, data))
        except DiskNearlyFull:  # its message stated a smaller size
            self._say_full()

    def _stored(self, event: MessageEvent, media: IncomingMedia, data: bytes) -> IncomingMedia:
        """Writes the file under a generated name: nothing chosen by the sender becomes part of a path. Raises
        OSError."""
        source = event.Info.MessageSource
        key = f"{self._order.device}\0{_address(source.Chat)}\0{_address(source.Sender)}\0{media.remote_id}"
        extension = mimetypes.guess_extension(media.mime) or ".bin"
        folder = Path(self._order.incoming)
        path = folder / (hashlib.sha256(key.encode()).hexdigest()[:40] + extension)
        beside = path.with_suffix(".part")
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with beside.open("wb", buffering=0) as file:
                for start in range(0, len(data), PIECE):
                    piece = data[start : start + PIECE]
                    self._reserve.require(len(piece))
                    file.write(piece)
            beside.replace(path)
        except OSError:  # usually a full disk
            beside.unlink(missing_ok=True)
            raise
        return msgspec.structs.replace(media, path=str(path), size=len(data), state="stored")

    def _finish(self, entry: Entry, media: IncomingMedia | None, reason: Reason = NOTHING) -> None:
        """Sends the media's result to the gateway: stored, or gone for a `reason`. The entry stays until that has been
        stored.

        Raises whatever an entry that cannot be decoded raises, and sqlite3.Error.
        """
        event = MessageEvent.FromString(entry.event)
        if media is None:
            described = _described(event) or IncomingMedia("", remote_id=bounds.identifier(event.Info.ID))
            media = msgspec.structs.replace(described, state="gone", reason=stored(reason))
        order = self._order
        # the engine is not asked for it: this may be the thread for which every other fetch waits
        known = _known(entry)
        sender = known.sender if known is not None else ""
        fetched = MediaFetched(order.account_id, order.device, entry.chat, media.remote_id, media, entry.id, sender)
        if not self._emit_once(entry, fetched):
            self._journal.begin_fetch(entry.id, time.time() + self._pause(entry))
            self._quarantine(entry, "what became of its media could not be encoded")

    def _quarantine(self, entry: Entry, reason: str) -> None:
        if not self._emit_once(entry, quarantined(entry, self._order, reason, self._gone(entry))):
            self._device.report("media of a received message: the entry could not be quarantined; it comes again")

    def _gone(self, entry: Entry) -> MediaFetched | None:
        """That the media of an entry that is quarantined are gone; None when it does not say whose they are."""
        known = _known(entry)
        if known is None:
            return None
        return msgspec.structs.replace(
            known, media=msgspec.structs.replace(known.media, state="gone", reason=stored(reasons.GONE_QUARANTINED()))
        )

    def _emit_once(self, entry: Entry, news: MediaFetched | Quarantined) -> bool:
        """Sends a fetch's result to the gateway, unless that was done; False: it could not be sent and is retried."""
        with self._changed:
            if self._closing.is_set() or entry.id in self._over:
                return True
            self._over.add(entry.id)
        emitted = False
        try:
            emitted = self._emit(news)
        finally:
            if not emitted:
                with self._changed:
                    self._over.discard(entry.id)
        return emitted


def _known(entry: Entry) -> MediaFetched | None:
    """What the entry says of its message; None of an earlier release, or when this one cannot read it."""
    if not entry.about:
        return None
    try:
        return msgspec.json.decode(entry.about, type=MediaFetched)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _described(event: MessageEvent) -> IncomingMedia | None:
    reading = interpret(message_of(event))
    if reading is None or reading.attachment is None:
        return None
    return pending(reading.attachment, bounds.identifier(event.Info.ID))


def _address(jid: JID) -> str:
    return f"{jid.User!r}@{jid.Server!r}"
