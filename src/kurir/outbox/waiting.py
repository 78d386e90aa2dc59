"""What a message waits for, decided from facts, and said in a sentence. Pure.

Every face that calls a message queued says this too: the compatible API, the command line, the operator API, and the
reason of a message that expired. The sentence names the command that helps, where one does.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from kurir.messages.lifecycle import MessageState
from kurir.numbers.numbers import Number

Cause = Literal[
    "removed",
    "paused",
    "unpaired",
    "pairing",
    "logged_out",
    "replaced",
    "outdated",
    "banned",
    "restricted",
    "degraded",
    "connecting",
    "ahead",
    "doubt_ahead",
    "retry",
    "file",
    "turn",
    "sending",
    "receipt",
    "decision",
    "database",
    "stopping",
]
Ahead = Literal["", "message", "doubt"]
"""What keeps a later message to the same person back: an earlier one that is queued or in flight, or one in doubt."""

OF_ITS_OWN: frozenset[Cause] = frozenset({"turn", "sending", "database"})
"""Causes that pass by themselves within moments, or that nobody can see."""
_SURELY: frozenset[Cause] = frozenset({"removed", "paused", "logged_out", "replaced", "outdated"})
"""Causes that end only when a person acts, or not within an hour."""
_REASON = 150


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a message that has not left. Times in unix seconds.

    `number` is None when it was removed; `state` and `reason` say how it is connected, as the gateway that carries it
    sees it, and `opens_at` when a banned device tries again, where that is known. `code` and `last` are the latest
    try's. `file_missing`: its picture or file has not been fetched. `may_resend`: a message in doubt that goes out once
    more without a person.
    """

    number: Number | None
    message: MessageState = "queued"
    due_at: float = 0.0
    ahead: Ahead = ""
    code: str = ""
    last: str = ""
    state: str = ""
    reason: str = ""
    opens_at: float | None = None
    file_missing: bool = False
    may_resend: bool = False


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """What a message waits for: the cause, the number's key, the reason that is known, and seconds until it changes."""

    cause: Cause
    number: str = ""
    reason: str = ""
    seconds: int | None = None


UNKNOWN = Waiting(cause="database")
"""The database does not say now what a message waits for."""
STOPPING = Waiting(cause="stopping")
"""Nothing more goes out of this process; what is queued stays so until a gateway runs."""


def waiting_for(facts: Facts, now: float) -> Waiting:  # noqa: PLR0911 - one return for each cause
    """What the message waits for now. Call it for a message that is queued, in flight or unconfirmed."""
    if facts.message == "sending":
        return Waiting(cause="sending")
    if facts.message == "unconfirmed":
        return Waiting(cause="receipt" if facts.may_resend else "decision")
    if facts.number is None:
        return Waiting(cause="removed")
    blocked = number_waits(facts.number, facts.state, facts.reason, now, facts.opens_at)
    if blocked is not None:
        return blocked
    if facts.ahead:
        return Waiting(cause="ahead" if facts.ahead == "message" else "doubt_ahead")
    if facts.due_at > now and facts.code == "restricted":
        return restricted(facts.number, facts.last, facts.due_at, now)
    if facts.due_at > now:
        return Waiting(cause="retry", reason=(facts.last or facts.code)[:_REASON], seconds=_left(facts.due_at, now))
    return Waiting(cause="file" if facts.file_missing else "turn")


def number_waits(number: Number, state: str, reason: str, now: float, opens_at: float | None = None) -> Waiting | None:
    """Why nothing of the number goes out now; None when it can send. `state` and `reason` as it is connected."""
    cause: Cause
    match state or number.state:
        case "connected":
            return None
        case "paused":
            cause = "paused"
        case "logged_out" | "replaced" | "outdated" | "banned" | "restricted" | "degraded" | "pairing" as known:
            cause = known
        case "disconnected" if not number.jid:
            cause = "unpaired"
        case _:
            cause = "connecting"
    seconds = _left(opens_at, now) if opens_at is not None else None
    return Waiting(cause=cause, number=number.key, reason=(reason or number.state_reason)[:_REASON], seconds=seconds)


def restricted(number: Number, reason: str, until: float, now: float) -> Waiting:
    """A first contact of a restricted number waits until then (unix seconds)."""
    return Waiting(cause="restricted", number=number.key, reason=reason[:_REASON], seconds=_left(until, now))


def lasts(waiting: Waiting, seconds: float) -> bool:
    """Whether it surely lasts longer than `seconds`: a person has to act, or the time of its end is later."""
    if waiting.cause in {"banned", "restricted"}:
        return waiting.seconds is None or waiting.seconds >= seconds
    return waiting.cause in _SURELY


def sentence(waiting: Waiting, language: str = "en") -> str:
    """What it waits for as half a sentence, in `en` or `id`."""
    words = _SENTENCES[waiting.cause][0 if language == "en" else 1]
    because = f" ({waiting.reason})" if waiting.reason else ""
    when = ""
    if waiting.seconds is not None:
        when = f" in {waiting.seconds} s" if language == "en" else f" dalam {waiting.seconds} detik"
    filled = words.replace("{number}", waiting.number).replace("{when}", when)
    return filled.replace("{because}", because)


def _left(at: float, now: float) -> int:
    return max(1, round(at - now))


_SENTENCES: dict[Cause, tuple[str, str]] = {
    "removed": ("its sender number was removed", "nomor pengirimnya sudah dihapus"),
    "paused": (
        "number {number} is paused{because}; once that is settled: `kurir number resume {number}`",
        "nomor {number} dijeda{because}; setelah beres: `kurir number resume {number}`",
    ),
    "unpaired": (
        "device {number} is not paired with a phone: `kurir number pair {number}`",
        "perangkat {number} belum ditautkan ke ponsel: `kurir number pair {number}`",
    ),
    "pairing": (
        "device {number} is being paired{because}: confirm it on the phone",
        "perangkat {number} sedang ditautkan{because}: selesaikan di ponsel",
    ),
    "logged_out": (
        "device {number} is logged out{because}: pair it again with `kurir number pair {number}`",
        "perangkat {number} sudah keluar{because}: tautkan lagi dengan `kurir number pair {number}`",
    ),
    "replaced": (
        "device {number} was replaced by another connection of its session{because}: stop that one, then "
        "`kurir number pair {number}`",
        "perangkat {number} digantikan koneksi lain dari sesinya{because}: hentikan koneksi itu, lalu "
        "`kurir number pair {number}`",
    ),
    "outdated": (
        "WhatsApp refuses this version of the engine{because}: upgrade Kurir",
        "WhatsApp menolak versi mesin ini{because}: perbarui Kurir",
    ),
    "banned": (
        "WhatsApp has banned {number} for a time{because}; it may send again{when}",
        "WhatsApp memblokir {number} untuk sementara{because}; nomor ini boleh mengirim lagi{when}",
    ),
    "restricted": (
        "WhatsApp lets {number} write to nobody new{because}; it may do so again{when}",
        "WhatsApp melarang {number} menyapa orang baru{because}; nomor ini boleh lagi{when}",
    ),
    "degraded": (
        "device {number} does not answer{because} and is being connected anew",
        "perangkat {number} tidak menjawab{because} dan sedang dihubungkan ulang",
    ),
    "connecting": (
        "device {number} is not connected{because}; it connects by itself",
        "perangkat {number} belum tersambung{because}; akan tersambung sendiri",
    ),
    "ahead": (
        "an earlier message to the same recipient has to go out first",
        "pesan sebelumnya ke penerima yang sama harus terkirim lebih dulu",
    ),
    "doubt_ahead": (
        "an earlier message to the same recipient is unconfirmed and may have to go out once more",
        "pesan sebelumnya ke penerima yang sama belum pasti dan mungkin dikirim sekali lagi",
    ),
    "retry": ("it is tried again{when}{because}", "akan dicoba lagi{when}{because}"),
    "file": (
        "its file, which is being fetched from its address",
        "berkasnya, yang sedang diambil dari alamatnya",
    ),
    "turn": ("its turn among the number's messages", "giliran di antara pesan nomor ini"),
    "sending": ("WhatsApp's answer: it is being sent", "jawaban WhatsApp: sedang dikirim"),
    "receipt": (
        "a receipt: it may have been sent, and goes out once more when none comes",
        "tanda terima: mungkin sudah terkirim, dan dikirim sekali lagi bila tidak ada",
    ),
    "decision": (
        "a receipt or a decision: it may have been sent (`kurir message replay` or `kurir message cancel`)",
        "tanda terima atau keputusan: mungkin sudah terkirim (`kurir message replay` atau `kurir message cancel`)",
    ),
    "stopping": (
        "the service, which is stopping; the message is kept and goes on when the service runs again",
        "layanan, yang sedang berhenti; pesan disimpan dan dilanjutkan setelah layanan berjalan lagi",
    ),
    "database": ("not known: the database does not answer now", "tidak diketahui: basis data sedang tidak menjawab"),
}
