"""The way of a linked device's received messages: from the engine into the journal, from there to the gateway.

The engine hands a message over on its own thread and goes on as soon as it is written down. A second thread reads it,
fetches its media and tells the gateway, which may be behind. When the gateway has stored it, the journal lets it go.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from neonize.proto.Neonize_pb2 import Message as MessageEvent

from kurir.channels.linked_device import threads
from kurir.channels.linked_device.engine import Open, Tell
from kurir.channels.linked_device.journal import Entry, Journal
from kurir.channels.linked_device.letters import Postman, read_letter
from kurir.messages.reports import Received

_MEDIA_PATIENCE = 60.0
"""Seconds for the connection to come back when media could not be downloaded because it was away."""
_DISK_PAUSE = 1.0


class Intake:
    """A device's received messages from `Open` to `Close`.

    Raises sqlite3.Error and OSError when its journal cannot be opened.
    """

    def __init__(self, order: Open, postman: Postman, tell: Tell, media_limit: int) -> None:
        self._order = order
        self._postman = postman
        self._tell = tell
        self._media_limit = media_limit
        self._journal = Journal(Path(order.journal))
        self._lock = threading.Lock()
        self._told: dict[tuple[str, str], list[int]] = {}
        self._online = threading.Event()
        self._closing = threading.Event()

    def start(self) -> None:
        """Begins to read: first what an earlier process left behind."""
        threads.keep(f"intake-{self._order.device}", self._read, self._closing, self._postman.complain)

    def take(self, event: MessageEvent) -> None:
        """Writes a message down. While the disk takes nothing this blocks, and the engine with it."""
        data = event.SerializeToString()
        complained = False
        while True:
            try:
                self._journal.append(data)
            except sqlite3.Error as error:
                if not complained:
                    self._postman.complain(f"a received message waits for the disk: {error}")
                    complained = True
                if self._closing.wait(_DISK_PAUSE):
                    return
            else:
                return

    def stored(self, messages: Sequence[tuple[str, str]]) -> None:
        """These messages, named by (chat, id at WhatsApp), are in the gateway's database."""
        with self._lock:
            entries = [entry for message in messages for entry in self._told.pop(message, ())]
        self._forget(entries)

    def online(self, *, connected: bool) -> None:
        """Says whether the device is connected, without which media cannot be had."""
        with self._lock:
            if connected or self._closing.is_set():
                self._online.set()
            else:
                self._online.clear()

    def closing(self) -> None:
        """The connection is about to go: nothing more is told, what is not stored yet stays in the journal."""
        with self._lock:
            self._closing.set()
            self._online.set()

    def close(self) -> None:
        """Call this when the engine can hand nothing over any more."""
        self.closing()
        self._journal.close()

    # -- the reading thread ----------------------------------------------------------------------------------------

    def _read(self) -> None:
        self._online.wait()  # before that the engine cannot be asked who wrote, nor for media
        last = 0
        while not self._closing.is_set():
            try:
                entry = self._journal.after(last)
            except sqlite3.Error as error:
                self._postman.complain(f"received messages cannot be read: {error}")
                self._closing.wait(_DISK_PAUSE)
                continue
            if entry is not None:
                last = entry.id
                self._hand_over(entry)

    def _hand_over(self, entry: Entry) -> None:
        try:
            received = self._letter(MessageEvent.FromString(entry.event))
        except Exception as error:
            self._postman.complain(f"Message: {type(error).__name__}: {error}")
            received = None
        if self._closing.is_set():
            return  # what it lacks may be for want of a connection: it is read again when the device is opened
        if received is None:
            self._forget([entry.id])
            return
        with self._lock:
            self._told.setdefault((received.chat, received.remote_id), []).append(entry.id)
        self._tell(received)

    def _letter(self, event: MessageEvent) -> Received | None:
        """The message with its media. While the connection is away, media are waited for."""
        until = time.monotonic() + _MEDIA_PATIENCE
        while True:
            received = read_letter(event, self._order, self._postman, self._media_limit)
            lacking = received is not None and received.media is not None and not received.media.path
            if not lacking or self._online.is_set() or time.monotonic() > until:
                return received
            self._online.wait(until - time.monotonic())

    def _forget(self, entries: Sequence[int]) -> None:
        try:
            self._journal.forget(entries)
        except sqlite3.Error as error:  # they are told once more some day, which the inbox notices
            self._postman.complain(f"the journal of received messages: {error}")
