"""Recent messages: what phones sent lately, for linked devices that could not read it and ask again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from kurir_sandbox.world import StateStore

_SPACE = "sent_by_phones"
_KEPT = 2000


class Remembered(msgspec.Struct, frozen=True):
    """A message a phone sent. `to` is a phone number or a group id, `sent_at` unix seconds as text."""

    sender: str
    to: str
    type: str
    media_type: str | None
    message: bytes
    sent_at: str


class RecentMessages:
    """The latest 2,000 messages of all phones by wire id, over restarts."""

    def __init__(self, store: StateStore, kept: int = _KEPT) -> None:
        self._store, self._kept = store, kept
        known = [
            (msgspec.msgpack.decode(raw, type=Remembered).sent_at, wire_id) for wire_id, raw in store.items(_SPACE)
        ]
        self._order = dict.fromkeys(wire_id for _, wire_id in sorted(known))
        self._trim()

    def put(self, wire_id: str, sent: Remembered) -> None:
        """Remembers a message; the oldest beyond the limit is forgotten."""
        self._store.put(_SPACE, wire_id, msgspec.msgpack.encode(sent))
        self._order[wire_id] = None
        self._trim()

    def get(self, wire_id: str) -> Remembered | None:
        """The message with this wire id, None when it is unknown or too old."""
        raw = self._store.get(_SPACE, wire_id)
        return None if raw is None else msgspec.msgpack.decode(raw, type=Remembered)

    def _trim(self) -> None:
        for wire_id in list(self._order)[: max(0, len(self._order) - self._kept)]:
            del self._order[wire_id]
            self._store.delete(_SPACE, wire_id)
