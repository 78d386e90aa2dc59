"""Rows of the outbox as values: messages to accept, claimed ones, and what a caller may see."""

from __future__ import annotations

from typing import Any

import msgspec

from kurir.kit.sealing import Sealing
from kurir.messages.content import Content
from kurir.messages.lifecycle import MessageState
from kurir.numbers.numbers import Number
from kurir.reasons import Reason, read

PRIORITY_OTP = 0
PRIORITY_NORMAL = 5
PRIORITY_BROADCAST = 8

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Content)


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A message to accept. `recipient` is a phone number in digits or a group id with `@g.us`.

    `lifetime` in seconds (None: the setting); `sealed` keeps the content encrypted and erases it at the end (OTP).
    A lower `priority` leaves first; messages of equal priority to one recipient leave in acceptance order.
    """

    account_id: int
    number_id: int
    recipient: str
    content: Content
    typing: bool = False
    priority: int = PRIORITY_NORMAL
    origin: str = "api"
    broadcast_id: int | None = None
    lifetime: float | None = None
    sealed: bool = False


class Claimed(msgspec.Struct, frozen=True):
    """A message that a lane has taken; `attempt` (1 = the first) was committed before the try.

    A person's replay begins again with attempt 1, at another `due_at`: both together name one try. `first_contact`: a
    trial of a restricted number (see `restrictions`).
    """

    id: int
    account_id: int
    number_id: int
    recipient: str
    content: Content
    typing: bool
    origin: str
    attempt: int
    created_at: float
    expires_at: float
    due_at: float
    first_contact: bool = False


class Claims(msgspec.Struct, frozen=True):
    """What a claim took, and what it saw.

    `number` is the sender as it is now, None when it was removed. `held` is False when this gateway may not send for
    it; then nothing else was looked at. `due_at`: when the next queued message becomes due (unix seconds), None when
    nothing waits; `files`: messages with files wait; `crowded`: more messages wait than a claim reads; `full`: the
    claim found as many as it was to take, so that there may be more.
    """

    number: Number | None
    messages: list[Claimed] = []
    held: bool = True
    due_at: float | None = None
    files: bool = False
    crowded: bool = False
    full: bool = False


class FileAhead(msgspec.Struct, frozen=True):
    """A message that waits for its file; `content` is None when it cannot be read."""

    id: int
    content: Content | None


class Upcoming(msgspec.Struct, frozen=True):
    """Files that a number will need next: messages that wait for their `files`, and of the messages whose files are
    being fetched those that are no longer queued (`given_up`)."""

    files: list[FileAhead]
    given_up: set[int]


class Snapshot(msgspec.Struct, frozen=True):
    """Where a message stands. Times are unix seconds."""

    id: int
    account_id: int
    number_id: int
    recipient: str
    kind: str
    state: MessageState
    attempts: int
    remote_id: str | None
    error_code: str
    error_reason: Reason
    created_at: float
    ended_at: float | None


_ERROR_REASON = Snapshot.__struct_fields__.index("error_reason")
SNAPSHOT_COLUMNS = ", ".join(Snapshot.__struct_fields__)


def encode_content(sealing: Sealing, message_id: int, content: Content, sealed: bool) -> str:
    """A content as the database keeps it; sealed contents are bound to their message."""
    text = _encoder.encode(content).decode()
    return sealing.seal(text, f"messages.content:{message_id}") if sealed else text


def decode_content(sealing: Sealing, message_id: int, stored: str, sealed: bool) -> Content:
    """The inverse of `encode_content`."""
    return _decoder.decode(sealing.open(stored, f"messages.content:{message_id}") if sealed else stored)


def snapshot(row: Any) -> Snapshot:
    """A Snapshot from a row of `SNAPSHOT_COLUMNS`."""
    values = list(row)
    values[_ERROR_REASON] = read(values[_ERROR_REASON])
    return Snapshot(*values)
