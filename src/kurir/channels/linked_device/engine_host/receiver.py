"""The receiver of a linked device: passes received messages and receipts from the engine to the journal, and on to the
gateway.

The engine's thread writes an event to the journal and returns. A second thread reads the entry and sends it to the
gateway, which may be behind. When the gateway has stored it, the journal deletes it; media are fetched after that,
separately (see `media_fetches`).

An entry that cannot be read, or crashes the process while it is read, has a few attempts over the restarts of the
process and is then sent to the gateway unread, to be quarantined. So is what an earlier pairing with another phone left
behind.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from neonize.events import ReceiptEv
from neonize.proto.Neonize_pb2 import Message as MessageEvent

from kurir.channels.linked_device.engine_host import threads
from kurir.channels.linked_device.engine_host.incoming_messages import (
    RECEIPT_MARK,
    DeviceContext,
    quarantined,
    read_message,
    read_receipt,
    to_fetch,
)
from kurir.channels.linked_device.engine_host.journal import Backlog, Entry, Journal, Kind
from kurir.channels.linked_device.engine_host.media_fetches import Limits, MediaFetches
from kurir.channels.linked_device.protocol import Emit, NumberEvent, Open, Unread
from kurir.messages.channel_reports import MediaFetched, Received

TRIES = 3
"""Attempts to read an entry before it is quarantined."""


class Receiver:
    """A device's received messages and receipts from `Open` to `Close`.

    `disk_pause`: seconds until what the disk refused is tried again.

    Raises sqlite3.Error and OSError when its journal cannot be opened.
    """

    def __init__(
        self,
        order: Open,
        device: DeviceContext,
        emit: Emit,
        limits: Limits,
        *,
        tries: int = TRIES,
        disk_pause: float = 1.0,
    ) -> None:
        self._order = order
        self._device = device
        self._emit = emit
        self._most_tries = tries
        self._disk_pause = disk_pause
        self._journal = Journal(Path(order.journal))
        self._fetches = MediaFetches(order, device, emit, self._journal, limits)
        self._lock = threading.Lock()
        self._owner = order.jid.partition("@")[0].partition(":")[0]
        self._handed: dict[int, MediaFetched | None] = {}
        """Messages and receipts sent to the gateway, with what is still to be fetched of each."""
        self._stored: dict[int, MediaFetched | None] = {}
        """Those of them that are stored and still in the journal."""
        self._ended: set[int] = set()
        """Fetches whose result is stored and that are still in the journal."""
        self._letting_go = threading.Lock()
        self._refused = False
        """Whether the disk refused the last deletion from the journal."""
        self._online = threading.Event()
        self._closing = threading.Event()
        self._down = threading.Event()

    def start(self) -> None:
        """Starts to read, first what an earlier process left behind."""
        threads.keep(f"receiver-{self._order.device}", self._read, self._closing, self._device.report)
        self._fetches.start(self._let_go)

    def take(self, event: MessageEvent) -> None:
        """Journals a message. While the disk refuses it this blocks, and the engine with it; it returns without having
        done so only when the connection is down, so that the engine cannot acknowledge the message."""
        self._write("message", event.SerializeToString())

    def take_bytes(self, event: bytes) -> None:
        """Journals a message, as `take` does, that is not decoded yet."""
        self._write("message", event)

    def take_receipt(self, event: ReceiptEv) -> None:
        """Journals a receipt, as `take` does a message."""
        self._write("receipt", event.SerializeToString())

    def replay(self, payload: bytes) -> None:
        """Puts a quarantined entry back, to be read again. Raises sqlite3.Error, and ValueError once closed."""
        kind: Kind = "receipt" if payload.startswith(RECEIPT_MARK) else "message"
        self._journal.append(kind, payload.removeprefix(RECEIPT_MARK), self._owner)

    def stored(self, entries: Sequence[int]) -> None:
        """The content of these entries is in the gateway's database. While the disk refuses to delete them, that is
        retried.

        For entries sent by an earlier opening of the device it is unknown what to fetch: they are sent once more.
        """
        with self._lock:
            for entry in entries:
                if entry in self._handed:
                    self._stored[entry] = self._handed.pop(entry)
                elif self._fetches.has_ended(entry):
                    self._ended.add(entry)
        self._let_go()

    def paired(self, phone: str) -> None:
        """Sets the pairing's phone number, where `Open` did not know it yet."""
        with self._lock:
            self._owner = phone or self._owner

    def online(self, *, connected: bool) -> None:
        """Sets whether the device is connected, which fetching media and looking numbers up requires."""
        with self._lock:
            if connected and self._owner:
                try:
                    self._journal.belong(self._owner)
                except sqlite3.Error as error:
                    self._device.report(f"the journal of received messages: {error}")
            if connected or self._closing.is_set():
                self._online.set()
            else:
                self._online.clear()
        self._fetches.online(self._owner, connected=connected)

    def backlog(self) -> Backlog:
        """What is not stored yet."""
        return self._journal.backlog()

    def closing(self) -> None:
        """The connection is about to close: nothing more is sent, what is not stored yet stays in the journal."""
        with self._lock:
            self._closing.set()
            self._online.set()
        self._fetches.closing()

    def close(self) -> None:
        """Call this when the connection is down and the engine can no longer acknowledge anything."""
        self.closing()
        self._down.set()
        self._journal.close()

    # -- what is stored --------------------------------------------------------------------------------------------

    def _let_go(self) -> None:
        """Deletes stored entries from the journal, and keeps what is to be fetched."""
        with self._letting_go:
            with self._lock:
                stored, self._stored = self._stored, {}
                ended, self._ended = self._ended, set()
            if not stored and not ended:
                return
            try:
                for entry, fetch in list(stored.items()):
                    if fetch is not None:
                        self._journal.keep_for_fetch(entry, fetch.chat, msgspec.json.encode(fetch).decode())
                        del stored[entry]  # from here on it is a fetch, which may start at once
                self._journal.forget([*stored, *ended])
            except sqlite3.Error as error:
                with self._lock:
                    self._stored = stored | self._stored
                    self._ended |= ended
                if not self._refused:
                    self._device.report(f"the journal of received messages: {error}")
                self._refused = True
                return
            self._refused = False
            self._fetches.stored(ended)
        self._fetches.look()

    # -- the engine's thread ---------------------------------------------------------------------------------------

    def _write(self, kind: Kind, event: bytes) -> None:
        reported = False
        while not self._down.is_set():
            try:
                self._journal.append(kind, event, self._owner)
            except sqlite3.Error as error:
                if not reported:
                    self._device.report(f"a received {kind} waits for the disk: {error}")
                    reported = True
                self._down.wait(self._disk_pause)
            except ValueError:
                return  # closed, and the connection with it: WhatsApp repeats what was not acknowledged
            else:
                return

    # -- the reading thread ----------------------------------------------------------------------------------------

    def _read(self) -> None:
        self._online.wait()  # before that the engine cannot look up who wrote
        last = 0
        while not self._closing.is_set():
            try:
                entry = self._journal.after(last)
                if entry is None:
                    continue
                if self._hand_over(entry):
                    last = entry.id
            except sqlite3.Error as error:
                self._device.report(f"received messages cannot be read: {error}")
                self._closing.wait(self._disk_pause)

    def _hand_over(self, entry: Entry) -> bool:
        """Reads an entry and sends it to the gateway; False: it has to be tried once more. Raises sqlite3.Error."""
        foreign = entry.kind == "message" and entry.owner not in ("", self._owner)
        if foreign and self._owner:
            self._quarantine(entry, "it came to an earlier pairing of this number, with another phone")
            return True
        if entry.tries >= self._most_tries:
            self._quarantine(entry, f"reading it ended the engine's process, or failed, {entry.tries} times")
            return True
        self._journal.begin(entry.id)  # on disk first: what follows may crash the process
        try:
            news = list(self._events_of(entry))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            self._device.report(f"received {entry.kind}: {reason}")
            if entry.tries + 1 < self._most_tries:
                return False
            self._quarantine(entry, reason)
            return True
        # from here on an end of the process has other reasons, however long the gateway makes this wait
        self._journal.succeeded(entry.id)
        kept = [one for one in news if not isinstance(one, Unread)]
        if not self._note(entry, kept):
            return True  # closing: it is read again when the device is opened
        # stop at the first event that is not sent: the last event of an entry deletes it
        if not all(self._emit(one) for one in news):
            self._quarantine(entry, "what it says could not be encoded")
        elif not kept:
            self._journal.forget([entry.id])
        return True

    def _events_of(self, entry: Entry) -> Iterator[NumberEvent | Unread]:
        if entry.kind == "receipt":
            receipt = ReceiptEv.FromString(entry.event)
            yield from read_receipt(receipt, self._order, self._device, entry.id, entry.at)
            return
        event = MessageEvent.FromString(entry.event)
        read = read_message(event, self._order, self._device, entry.id, entry.at)
        yield read if isinstance(read, Received) else Unread(self._order.device, read)

    def _note(self, entry: Entry, kept: list[NumberEvent]) -> bool:
        """Records what is sent, before the gateway can report it stored; False: nothing more may be sent."""
        with self._lock:
            if self._closing.is_set():
                return False
            if kept:
                self._handed[entry.id] = next((to_fetch(one) for one in kept if isinstance(one, Received)), None)
        return True

    def _quarantine(self, entry: Entry, reason: str) -> None:
        """Sends an entry to the quarantine. One that the gateway cannot take stays in the journal, and is retried when
        the device is opened: only what is stored leaves the journal."""
        with self._lock:
            if self._closing.is_set():
                return
            self._handed[entry.id] = None  # its message is not stored: nothing is to be fetched
        if not self._emit(quarantined(entry, self._order, reason)):
            with self._lock:
                self._handed.pop(entry.id, None)
            self._device.report(f"a received {entry.kind} could not be quarantined and stays in the journal: {reason}")
