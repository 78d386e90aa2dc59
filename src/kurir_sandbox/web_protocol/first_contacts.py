"""First contacts: who has never written to a number. WhatsApp treats messages to them more strictly."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kurir_sandbox.world import StateStore

_SPACE = "has_written"


class FirstContacts:
    """Who has written to whom in a personal chat, over restarts."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._known = {key for key, _ in store.items(_SPACE)}

    def note(self, sender: str, to: str) -> None:
        """The number `sender` wrote to the number `to`."""
        key = f"{sender}/{to}"
        if key not in self._known:
            self._known.add(key)
            self._store.put(_SPACE, key, b"")

    def has_written(self, sender: str, to: str) -> bool:
        """Whether `sender` ever wrote to `to`."""
        return f"{sender}/{to}" in self._known
