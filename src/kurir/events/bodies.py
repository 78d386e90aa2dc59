"""The bodies of events, as customers' servers get them. Pure.

`incoming_chat` has the shape that existing receivers rely on, every key always present and nothing more; the other
types are Kurir's own and sent only to endpoints that asked for them.

More than 300 lines: the body of each type of event.
"""

from __future__ import annotations

from typing import Literal, assert_never, get_args

import msgspec

from kurir.messages.channel_reports import MediaFetched, Received
from kurir.messages.content import Content, Document, Image, Location, TemplateUse, Text
from kurir.messages.lifecycle import MessageState

WebhookEvent = Literal[
    "incoming_chat",
    "media_status",
    "message_status",
    "device_status",
    "template_status",
    "broadcast_status",
    "otp_guessing",
]
"""Events of a sender number: for readers of the log and for webhook endpoints."""
AccountEvent = Literal["contact_list_changed", "number_changed"]
"""Events of what an account has set up, its numbers among it: for readers of the log, not for webhooks. How a number is
connected is in `device_status`."""
EventType = WebhookEvent | AccountEvent
ListChange = Literal[
    "created", "renamed", "deleted", "people_added", "people_changed", "people_removed", "people_checked"
]
NumberChange = Literal["added", "renamed", "removed"]
WEBHOOK_EVENTS: tuple[WebhookEvent, ...] = get_args(WebhookEvent)
EVENT_TYPES: tuple[EventType, ...] = (*WEBHOOK_EVENTS, *get_args(AccountEvent))

Ack = Literal["PENDING", "SENT", "READ"]


class Place(msgspec.Struct, frozen=True):
    """A pin, in degrees."""

    lat: float
    lng: float


class IncomingChat(msgspec.Struct, frozen=True, kw_only=True, tag="incoming_chat"):
    """A message in a chat: from a person, or the device's own (`is_from_me`). Names as on the wire, misspelling too.

    `profile_picture` is "" as long as Kurir does not fetch pictures. The file behind `has_media` is not served yet; the
    stored one is `Received.media.path`.
    """

    chat_id: str
    message_id: str
    id: str
    name: str
    profile_picture: str
    timestamp: int
    message_body: str
    message_ack: Ack
    has_media: bool
    media_mime: str
    media_name: str
    location_attached: Place | None
    is_forwading: bool
    is_from_me: bool


class MediaStatus(msgspec.Struct, frozen=True, kw_only=True, tag="media_status"):
    """The file of a received message was fetched (`stored`), or is unavailable (`gone`, for a `reason`); `message_id`
    as in `incoming_chat`. `media_size` is in bytes. What is gone may be stored later after all."""

    message_id: str
    number_id: str
    chat_id: str
    status: Literal["stored", "gone"]
    media_mime: str
    media_name: str
    media_size: int
    reason: str
    reason_code: str
    timestamp: int


class MessageStatus(msgspec.Struct, frozen=True, kw_only=True, tag="message_status"):
    """A message that was sent through Kurir reached a state; `message_id` as in the header X-Message-Id of its send.

    `remote_id` is the network's own id (`wamid.…` on official numbers), "" while there is none.
    """

    message_id: str
    remote_id: str
    number_id: str
    chat_id: str
    status: MessageState
    error_code: str
    error_reason: str
    reason_code: str
    timestamp: int


class DeviceStatus(msgspec.Struct, frozen=True, kw_only=True, tag="device_status"):
    """A number's connection changed; `state` as `state_connection` of the API."""

    number_id: str
    phone: str
    name: str
    state: str
    reason: str
    reason_code: str
    timestamp: int


class TemplateStatus(msgspec.Struct, frozen=True, kw_only=True, tag="template_status"):
    """A template got a status; `template_id` is Kurir's id, `templateId` Meta's."""

    template_id: str
    templateId: str  # noqa: N815 - the wire's own spelling
    number_id: str
    name: str
    language: str
    status: str
    reason: str
    timestamp: int


class OtpGuessing(msgspec.Struct, frozen=True, kw_only=True, tag="otp_guessing"):
    """Many wrong one-time passwords were checked within a minute or two; at most one such event an hour.

    `number_id` is the number that sent the account's latest code; `checked_by` the field by which the checks were
    narrowed (`req_id`, `phone_no`), or `otp_code` when they named the code alone; `wrong_checks` are of the last hour.
    """

    number_id: str
    checked_by: str
    wrong_checks: int
    timestamp: int


class BroadcastStatus(msgspec.Struct, frozen=True, kw_only=True, tag="broadcast_status"):
    """A broadcast to several people was accepted, has advanced (in steps of a percent), or is done: all its messages
    are settled.

    `bc_id` as in the answer to its send; `counts` says how many of its messages are in each state.
    """

    bc_id: str
    number_id: str
    template_name: str
    status: Literal["accepted", "running", "done"]
    recipients: int
    counts: dict[str, int]
    timestamp: int


class ContactListChanged(msgspec.Struct, frozen=True, kw_only=True, tag="contact_list_changed"):
    """A contact list changed; `people` is how many were added, removed or checked by this change, or got another name
    or custom fields."""

    contact_id: str
    name: str
    change: ListChange
    people: int
    timestamp: int


class NumberChanged(msgspec.Struct, frozen=True, kw_only=True, tag="number_changed"):
    """A sender number was added, renamed or removed; `name` and `phone` as they are now, or before it was removed."""

    number_id: str
    name: str
    phone: str
    channel: str
    change: NumberChange
    timestamp: int


class Test(msgspec.Struct, frozen=True, kw_only=True, tag="test"):
    """Sent by a person, to test a receiver."""

    __test__ = False  # no test of pytest's

    message: str
    timestamp: int


Body = (
    IncomingChat
    | MediaStatus
    | MessageStatus
    | DeviceStatus
    | TemplateStatus
    | BroadcastStatus
    | OtpGuessing
    | ContactListChanged
    | NumberChanged
    | Test
)


def encode(body: Body) -> bytes:
    """The body as it is sent: `{"type": …, "data": {…}}`, UTF-8."""
    data = msgspec.structs.asdict(body)
    return msgspec.json.encode({"type": body.__struct_config__.tag, "data": data})


def chat_id(chat: str) -> str:
    """A chat as receivers know it: `6281…@c.us` for a person, `…@g.us` for a group."""
    return chat if "@" in chat else chat + "@c.us"


def received(message: Received) -> IncomingChat:
    """The body for a received message, or one that another device of the same number sent."""
    media = message.media
    return IncomingChat(
        chat_id=chat_id(message.chat),
        message_id=message.remote_id,
        id=message.remote_id,
        name=message.sender_name,
        profile_picture="",
        timestamp=int(message.at),
        message_body=message.text,
        message_ack="SENT",
        has_media=media is not None,
        media_mime=media.mime if media else "",
        media_name=media.name if media else "",
        location_attached=Place(*message.location) if message.location else None,
        is_forwading=message.forwarded,
        is_from_me=message.from_me,
    )


def media_status(fetched: MediaFetched, number_key: str, reason: str, code: str, now: float) -> MediaStatus:
    """The body for the result of fetching a received message's file; `reason` in words, and its `code`."""
    media = fetched.media
    return MediaStatus(
        message_id=fetched.remote_id,
        number_id=number_key,
        chat_id=chat_id(fetched.chat),
        status="stored" if media.state == "stored" else "gone",
        media_mime=media.mime,
        media_name=media.name,
        media_size=media.size,
        reason=reason,
        reason_code=code,
        timestamp=int(now),
    )


def own(
    chat: str, remote_id: str, content: Content | None, *, at: float, mime: str = "", name: str = ""
) -> IncomingChat:
    """The body for a message that a device sent through Kurir.

    `content` is None when it is a secret (OTP): the body then has only that it was sent. `mime` and `name` describe the
    file of a picture or document.
    """
    text, has_media, place = "", False, None
    match content:
        case Text(body):
            text = body
        case Image(caption=caption) | Document(caption=caption):
            text, has_media = caption, True
        case Location(latitude, longitude, title, address):
            text, place = title or address, Place(latitude, longitude)
        case TemplateUse() | None:
            pass
        case _:
            assert_never(content)
    return IncomingChat(
        chat_id=chat_id(chat),
        message_id=remote_id,
        id=remote_id,
        name="",
        profile_picture="",
        timestamp=int(at),
        message_body=text,
        message_ack="SENT",
        has_media=has_media,
        media_mime=mime,
        media_name=name,
        location_attached=place,
        is_forwading=False,
        is_from_me=True,
    )


__all__ = [
    "EVENT_TYPES",
    "WEBHOOK_EVENTS",
    "Body",
    "BroadcastStatus",
    "ContactListChanged",
    "DeviceStatus",
    "EventType",
    "IncomingChat",
    "ListChange",
    "MediaStatus",
    "MessageStatus",
    "NumberChange",
    "NumberChanged",
    "OtpGuessing",
    "Place",
    "TemplateStatus",
    "Test",
    "WebhookEvent",
    "chat_id",
    "encode",
    "media_status",
    "own",
    "received",
]
