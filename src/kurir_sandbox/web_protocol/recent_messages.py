"""Recent messages: what phones sent lately, for linked devices that could not read it and ask again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from .drafts import Outgoing, read_form, shown_form

if TYPE_CHECKING:
    from kurir_sandbox.world import StateStore

_SPACE = "messages_of_phones"
_KEPT = 2000


class Remembered(msgspec.Struct, frozen=True):
    """A message a phone sent. `to` is a phone number or a group id, `sent_at` unix seconds as text, `form` JSON."""

    sender: str
    to: str
    wire_id: str
    plaintext: bytes
    type: str
    media_type: str | None
    form: dict[str, Any]
    sent_at: str

    @classmethod
    def of(cls, sender: str, to: str, wire_id: str, outgoing: Outgoing, sent_at: str) -> Remembered:
        """`outgoing` as it went from `sender` to `to`."""
        form = shown_form(outgoing.form)
        return cls(sender, to, wire_id, outgoing.plaintext, outgoing.type, outgoing.media_type, form, sent_at)

    @property
    def outgoing(self) -> Outgoing:
        """The message as it was sent."""
        return Outgoing(self.plaintext, self.type, self.media_type, read_form(self.form))

    @property
    def key(self) -> str:
        """Identifies the message: a sender chooses ids freely, so an id alone does not."""
        return f"{self.sender}/{self.to}/{self.wire_id}"


class RecentMessages:
    """The latest 2,000 messages of all phones, over restarts."""

    def __init__(self, store: StateStore, kept: int = _KEPT) -> None:
        self._store, self._kept = store, kept
        known = [(msgspec.msgpack.decode(raw, type=Remembered).sent_at, key) for key, raw in store.items(_SPACE)]
        self._order = dict.fromkeys(key for _, key in sorted(known))
        self._trim()

    def put(self, sent: Remembered) -> None:
        """Remembers a message; the oldest beyond the limit is forgotten."""
        self._store.put(_SPACE, sent.key, msgspec.msgpack.encode(sent))
        self._order[sent.key] = None
        self._trim()

    def get(self, sender: str, to: str, wire_id: str) -> Remembered | None:
        """The latest message of `sender` in this chat with this id, None when it is unknown or too old."""
        raw = self._store.get(_SPACE, f"{sender}/{to}/{wire_id}")
        return None if raw is None else msgspec.msgpack.decode(raw, type=Remembered)

    def _trim(self) -> None:
        for key in list(self._order)[: max(0, len(self._order) - self._kept)]:
            del self._order[key]
            self._store.delete(_SPACE, key)
