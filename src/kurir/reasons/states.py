"""State words of messages and numbers, in both languages."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from kurir.reasons.reason import Code, Reason, as_written

QUEUED = Code("state_queued", id="dalam antrean", en="queued")
SENDING = Code("state_sending", id="sedang dikirim", en="sending")
SENT = Code("state_sent", id="terkirim", en="sent")
DELIVERED = Code("state_delivered", id="diterima", en="delivered")
READ = Code("state_read", id="dibaca", en="read")
FAILED = Code("state_failed", id="gagal", en="failed")
EXPIRED = Code("state_expired", id="kedaluwarsa", en="expired")
CANCELED = Code("state_canceled", id="dibatalkan", en="canceled")
UNCONFIRMED = Code("state_unconfirmed", id="belum pasti", en="unconfirmed")

CONNECTED = Code("state_connected", id="tersambung", en="connected")
CONNECTING = Code("state_connecting", id="sedang menyambung", en="connecting")
DISCONNECTED = Code("state_disconnected", id="terputus", en="disconnected")
PAIRING = Code("state_pairing", id="sedang ditautkan", en="pairing")
LOGGED_OUT = Code("state_logged_out", id="sudah keluar", en="logged out")
REPLACED = Code("state_replaced", id="digantikan sesi lain", en="replaced")
BANNED = Code("state_banned", id="diblokir", en="banned")
OUTDATED = Code("state_outdated", id="perlu diperbarui", en="outdated")
DEGRADED = Code("state_degraded", id="tidak menjawab", en="degraded")
PAUSED = Code("state_paused", id="dijeda", en="paused")
RESTRICTED = Code("state_restricted", id="dibatasi", en="restricted")

EITHER = Code("either", id="{first} atau {second}", en="{first} or {second}")

_WORDS: dict[str, Code] = {entry.code: entry for entry in list(vars().values()) if isinstance(entry, Code)}


def state(word: str) -> Reason:
    """The state of a message or a number, as a parameter or on its own; a word of another release as it is."""
    entry = _WORDS.get(f"state_{word}")
    return entry() if entry is not None else as_written(word)


def either(words: Iterable[str]) -> Reason:
    """Several states, in alphabetical order, of which one is meant: `failed or unconfirmed`."""
    return reduce(lambda first, second: EITHER(first=first, second=second), map(state, sorted(words)))
