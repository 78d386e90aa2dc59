"""Reads callbacks of the Cloud API: converts one signed POST of Meta to events. Pure.

Facts: Meta, "Webhooks" (`messages`, `messages/status`, `message_template_status_update`, `smb_message_echoes`). One
POST may contain several entries, each several changes. Delivery is at least once and in any order, so every event has a
fingerprint by which its repetition is recognized.

A body is read in two steps. Before its signature is verified (`signers`), only the ids that it claims are searched for
(`ids_claimed`). Afterwards it is parsed and read change by change: unsupported content is reported by its kind, what
cannot be read is quarantined, and every text, id, number and time is bounded.

More than 300 lines: one reader for each kind of Meta's changes, which share the bounded access to their fields.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from kurir.channels.cloud_api.errors import halts
from kurir.channels.cloud_api.lenient_json import decoded, identifier_of, leniently_decoded, text_of
from kurir.channels.cloud_api.templates.components import shown_status
from kurir.kit.json_values import JsonValue
from kurir.messages import bounds
from kurir.messages.channel_reports import (
    ConnectionChanged,
    Event,
    IncomingMedia,
    Quarantined,
    Received,
    StatusChanged,
    TemplateReviewed,
)
from kurir.messages.lifecycle import ReceiptStatus
from kurir.numbers.numbers import Number
from kurir.reasons import as_written
from kurir.reasons.messages import HALTED

_RECEIPTS: dict[str, ReceiptStatus] = {
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "played": "read",  # a voice message was listened to, which implies read
    "failed": "failed",
}
_MEDIA = ("image", "video", "audio", "document", "sticker")
CHANGE, BODY = "change:", "body:"
"""Prefixes of a quarantine entry's reference: the entry holds a change, or a whole body."""
CLAIMS = 32
"""Maximum distinct ids of a kind that are read before the signature is verified; a callback of Meta's names few."""
_PHONE_NUMBER_ID = re.compile(rb'"phone_number_id"\s*:\s*"?([\w.-]{1,64})')
_ENTRY_ID = re.compile(rb'"id"\s*:\s*"?([\w.-]{1,64})')
_KIND = re.compile(r"[a-z0-9_]{1,40}")
_CODE = 32


class Change(msgspec.Struct, frozen=True):
    """One change of a callback. `phone_number_id` is "" for what concerns the whole business account."""

    field: str
    value: dict[str, Any]
    waba_id: str
    phone_number_id: str
    time: str


class Claims(msgspec.Struct, frozen=True):
    """The ids that a body names, before its signature is verified."""

    phone_number_ids: frozenset[str]
    waba_ids: frozenset[str]


class Fingerprinted(msgspec.Struct, frozen=True):
    """An event and the fingerprint by which a repetition of it is recognized."""

    event: Event
    fingerprint: str


class Reading(msgspec.Struct, frozen=True):
    """The content of changes: the events, the kinds of unsupported content (words of a fixed shape), and the changes
    that could not be read, as entries for the quarantine."""

    events: list[Fingerprinted]
    unread: list[str]
    broken: list[Quarantined]


def ids_claimed(body: bytes) -> Claims:
    """The first ids in a body that may be a number's or a business account's. The body is not parsed."""
    return Claims(_first(_PHONE_NUMBER_ID, body), _first(_ENTRY_ID, body))


def _first(pattern: re.Pattern[bytes], body: bytes) -> frozenset[str]:
    found: set[str] = set()
    for number, match in enumerate(pattern.finditer(body)):
        found.add(match[1].decode("ascii", "replace"))
        if len(found) >= CLAIMS or number >= CLAIMS * 8:
            break
    return frozenset(found)


def signed_by(app_secret: str, body: bytes, signature: str) -> bool:
    """Whether `X-Hub-Signature-256` is the HMAC-SHA256 of the raw body under this app secret; constant time."""
    if not app_secret:
        return False
    wanted = "sha256=" + hmac.new(app_secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "replace"))


def changes_of(body: bytes) -> list[Change] | None:
    """The changes in a body; None when it is not a JSON object.

    An invalid character (a byte that is not UTF-8, a lone surrogate) or a number out of range spoils only the value
    that contains it.
    """
    envelope = decoded(body)
    if not isinstance(envelope, dict):
        return None
    found: list[Change] = []
    for entry in _objects(envelope.get("entry")):
        for change in _objects(entry.get("changes")):
            value = _object(change.get("value"))
            found.append(
                Change(
                    field=text_of(change.get("field")),
                    value=value,
                    waba_id=identifier_of(entry.get("id")),
                    phone_number_id=identifier_of(_object(value.get("metadata")).get("phone_number_id")),
                    time=identifier_of(entry.get("time")),
                )
            )
    return found


def owners_among(numbers: Iterable[Number]) -> Callable[[Change], Sequence[Number]]:
    """Finds the numbers that a change is about: the one that it names, or all of its business account."""
    by_number: dict[str, list[Number]] = {}
    by_business: dict[str, list[Number]] = {}
    for number in numbers:
        by_number.setdefault(number.phone_number_id, []).append(number)
        by_business.setdefault(number.waba_id, []).append(number)

    def owners(change: Change) -> Sequence[Number]:
        if change.phone_number_id:
            return by_number.get(change.phone_number_id, [])
        return by_business.get(change.waba_id, []) if change.waba_id else []

    return owners


class TooMuch(Exception):  # noqa: N818 - a state, not a mistake
    """The changes contain more than is read."""


def read(
    changes: Sequence[Change], owners: Callable[[Change], Sequence[Number]], now: float, *, most: int | None = None
) -> Reading:
    """The events of verified changes.

    owners: the numbers whose app secret signed the change; each gets its own events, none means unsupported. now: unix
    seconds, stands in for a missing timestamp. A change that cannot be read does not keep others from it. Raises
    TooMuch for more than `most` events and unsupported items.
    """
    reading = Reading([], [], [])
    for change in changes:
        numbers = owners(change)
        if not numbers:
            reading.unread.append("number")
        for number in numbers:
            left = None if most is None else most - len(reading.events) - len(reading.unread)
            try:
                found = list(islice(_events(change, number, now), None if left is None else left + 1))
            except Exception as error:
                reading.broken.append(
                    quarantined(change, number.account_id, number.id, f"{type(error).__name__}: {error}")
                )
                continue
            if left is not None and len(found) > left:
                raise TooMuch
            reading.events.extend(event for event in found if isinstance(event, Fingerprinted))
            reading.unread.extend(kind for kind in found if isinstance(kind, str))
    return reading


def quarantined(change: Change, account_id: int, number_id: int, reason: str) -> Quarantined:
    """A quarantine entry with the whole change, as JSON of a `Change`."""
    try:
        payload = msgspec.json.encode(change)
    except (OverflowError, ValueError, RecursionError):  # a whole number of more than 64 bits
        payload = json.dumps(msgspec.structs.asdict(change)).encode()
    reference = f"{CHANGE}{hashlib.sha256(payload).hexdigest()}"
    return Quarantined(account_id, number_id, "callback", reference, bounds.text(reason, bounds.REASON), payload)


def quarantined_whole(body: bytes, account_id: int, number_id: int, reason: str) -> Quarantined:
    """An entry for the quarantine that holds a whole signed body."""
    reference = f"{BODY}{hashlib.sha256(body).hexdigest()}"
    return Quarantined(account_id, number_id, "callback", reference, reason, body)


def change_of(payload: bytes) -> Change:
    """The change in the payload of an entry of `quarantined`. Raises MsgspecError and ValueError."""
    try:
        return msgspec.json.decode(payload, type=Change)
    except msgspec.DecodeError:
        return msgspec.convert(leniently_decoded(payload), Change)


def _events(change: Change, number: Number, now: float) -> Iterator[Fingerprinted | str]:
    """The events; for unsupported content a word for its kind."""
    match change.field:
        case "messages":
            for status in _objects(change.value.get("statuses")):
                status_event = _status(status, number, now)
                yield status_event or f"status_{_kind(status.get('status'))}"
                if status_event is not None and (paused := _pause(status_event, number)) is not None:
                    yield paused
            names = _names(change.value)
            for message in _objects(change.value.get("messages")):
                yield _received(message, number, names, now, from_me=False) or f"message_{_kind(message.get('type'))}"
            if change.value.get("errors"):
                yield "messages_errors"
        case "smb_message_echoes":
            for message in _objects(change.value.get("message_echoes")):
                yield _received(message, number, {}, now, from_me=True) or f"echo_{_kind(message.get('type'))}"
        case "message_template_status_update":
            yield _reviewed(change, number) or "template_review"
        case field:
            yield _kind(field)


def _status(status: dict[str, Any], number: Number, now: float) -> Fingerprinted | None:
    remote_id = identifier_of(status.get("id"))
    receipt = _RECEIPTS.get(text_of(status.get("status")))
    if not remote_id or receipt is None:
        return None
    errors = _objects(status.get("errors"))
    error = errors[0] if errors else {}
    details = text_of(_object(error.get("error_data")).get("details"))
    event = StatusChanged(
        account_id=number.account_id,
        number_id=number.id,
        remote_id=remote_id,
        status=receipt,
        at=_time(status.get("timestamp"), now),
        message_id=_message_id(status.get("biz_opaque_callback_data")),
        code=text_of(error.get("code"), _CODE),
        reason=bounds.text(
            ": ".join(part for part in (text_of(error.get("title") or error.get("message")), details) if part),
            bounds.REASON,
        ),
        person=identifier_of(status.get("recipient_id")) or identifier_of(status.get("recipient_user_id")),
    )
    return Fingerprinted(event, bounds.identifier(f"status:{remote_id}:{receipt}"))


def _pause(status_event: Fingerprinted, number: Number) -> Fingerprinted | None:
    """The pause of a number when a message failed for a reason that applies to all messages of the number."""
    event = status_event.event
    if not isinstance(event, StatusChanged) or event.status != "failed":
        return None
    code = bounds.number(event.code)
    advice = halts(code) if code is not None else None
    if advice is None:
        return None
    reason = HALTED(reason=as_written(event.reason), code=event.code, advice=advice)
    changed = ConnectionChanged(number.account_id, number.id, "paused", reason, event.at)
    return Fingerprinted(changed, bounds.identifier(f"pause:{status_event.fingerprint}"))


def _received(
    message: dict[str, Any], number: Number, names: dict[str, str], now: float, *, from_me: bool
) -> Fingerprinted | None:
    remote_id = identifier_of(message.get("id"))
    # people with a username may be known by a business-scoped user id only
    person = identifier_of(message.get("to" if from_me else "from")) or identifier_of(message.get("from_user_id"))
    kind = text_of(message.get("type"), bounds.NAME)
    if not remote_id or not person or not kind:
        return None
    part = _object(message.get(kind))
    context = _object(message.get("context"))
    event = Received(
        account_id=number.account_id,
        number_id=number.id,
        remote_id=remote_id,
        chat=person,
        sender=number.phone if from_me else person,
        sender_name=bounds.text(names.get(person, ""), bounds.NAME),
        at=_time(message.get("timestamp"), now),
        kind="text" if kind in {"button", "interactive"} else kind,
        text=bounds.text(_words(kind, part)),
        media=_media(part) if kind in _MEDIA else None,
        location=_place(part) if kind == "location" else None,
        from_me=from_me,
        forwarded=context.get("forwarded") is True or context.get("frequently_forwarded") is True,
    )
    return Fingerprinted(event, bounds.identifier(f"message:{remote_id}"))


def _reviewed(change: Change, number: Number) -> Fingerprinted | None:
    # the only callback that gives the template's id as a number
    meta_id = identifier_of(change.value.get("message_template_id"))
    status = text_of(change.value.get("event"), bounds.NAME)
    if not meta_id or not status:
        return None
    reason = text_of(change.value.get("reason"))
    advice = text_of(_object(change.value.get("rejection_info")).get("reason"))
    event = TemplateReviewed(
        account_id=number.account_id,
        number_id=number.id,
        meta_id=meta_id,
        status=shown_status(status),
        reason=bounds.text(advice or ("" if reason == "NONE" else reason), bounds.REASON),
    )
    return Fingerprinted(event, bounds.identifier(f"template:{meta_id}:{status}:{change.time}"))


def _words(kind: str, part: dict[str, Any]) -> str:
    """The text that a person reads in that message."""
    match kind:
        case "text" | "system":
            return text_of(part.get("body"))
        case "button":
            return text_of(part.get("text"))
        case "reaction":
            return text_of(part.get("emoji"))
        case "location":
            return text_of(part.get("name")) or text_of(part.get("address"))
        case "interactive":
            reply = _object(part.get(text_of(part.get("type"))))
            return text_of(reply.get("title")) or text_of(reply.get("body"))
        case _:
            return text_of(part.get("caption"))


def _media(part: dict[str, Any]) -> IncomingMedia:
    mime = text_of(part.get("mime_type"), bounds.MIME).partition(";")[0].strip()
    return IncomingMedia(
        mime=mime, name=text_of(part.get("filename"), bounds.FILE_NAME), remote_id=identifier_of(part.get("id"))
    )


def _place(part: dict[str, Any]) -> tuple[float, float] | None:
    latitude, longitude = _float(part.get("latitude")), _float(part.get("longitude"))
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return None
    return latitude, longitude


def _names(value: dict[str, Any]) -> dict[str, str]:
    names: dict[str, str] = {}
    for contact in _objects(value.get("contacts")):
        name = text_of(_object(contact.get("profile")).get("name"))
        for key in ("wa_id", "user_id"):
            if person := identifier_of(contact.get(key)):
                names[person] = name
    return names


def _message_id(data: object) -> int | None:
    """Our message id out of `biz_opaque_callback_data`; None for anything that is not one."""
    text = text_of(data, bounds.ID)
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        return None
    value = int(text)
    return value if 0 < value < 1 << 63 else None


def _time(value: object, now: float) -> float:
    seconds = _float(value)
    return bounds.moment(seconds, now) if seconds is not None else now


def _float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _kind(value: object) -> str:
    """A word of Meta's for the log and the metric; "other" for anything else."""
    return value if isinstance(value, str) and _KIND.fullmatch(value) else "other"


def _object(value: JsonValue) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: JsonValue) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
