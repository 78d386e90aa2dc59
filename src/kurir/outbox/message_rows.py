"""Rows of the outbox as values: messages to accept, claimed ones, and what a caller may see."""

from __future__ import annotations

from typing import Any

import msgspec

from kurir.kit.sealing import Sealing
from kurir.messages.content import Content
from kurir.messages.lifecycle import MessageState
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


class FileAhead(msgspec.Struct, frozen=True):
    """A message that waits for its file; `content` is None when it cannot be read."""

    id: int
    content: Content | None


class Upcoming(msgspec.Struct, frozen=True):
    """What a number will send next. `due_at`: when something becomes due, None when nothing waits; `files`: messages
    that wait for their files; `given_up`: of the messages whose files are being fetched, those that are no longer
    queued; `crowded`: more messages wait than a claim reads."""

    due_at: float | None
    files: list[FileAhead]
    given_up: set[int]
    crowded: bool


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
