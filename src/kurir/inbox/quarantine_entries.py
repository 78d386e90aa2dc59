"""Events as quarantine entries: their references, and their payloads, which can be decoded."""

from __future__ import annotations

from typing import assert_never

import msgspec

from kurir.messages.channel_reports import (
    ConnectionChanged,
    Event,
    MediaFetched,
    Quarantined,
    Received,
    StatusChanged,
    TemplateReviewed,
)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Event).decode


def reference_of(event: Event) -> str:
    """An event's reference among those of its number; a repetition of the event has the same."""
    match event:
        case Received():
            return f"{event.chat}/{event.remote_id}"
        case MediaFetched():
            return f"{event.chat}/{event.remote_id}/media"
        case StatusChanged():
            return f"{event.remote_id}/{event.status}/{event.person}"
        case ConnectionChanged():
            return f"{event.state}/{event.at}"
        case TemplateReviewed():
            return f"{event.meta_id}/{event.status}"
        case Quarantined():
            return event.reference
        case _:
            assert_never(event)


def payload_of(event: Event) -> bytes:
    """The event as `event_of` reads it; one that cannot be encoded is kept as its repr."""
    try:
        return _encode(event)
    except (UnicodeEncodeError, OverflowError, msgspec.MsgspecError):
        return repr(event).encode("utf-8", "backslashreplace")


def event_of(payload: bytes) -> Event:
    """The event in the payload of a quarantine entry of the queue `inbox` or `callback`. Raises MsgspecError."""
    return _decode(payload)
