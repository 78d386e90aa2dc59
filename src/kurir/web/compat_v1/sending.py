"""The steps that the four endpoints that send over a linked device share: read the fields into bubbles, store them in
the outbox, answer the caller.

`async` answers as soon as the messages are durably stored. `sync` waits, bounded, for the channel's outcome; the
messages stay queued either way.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from kurir.kit.ids import public_message_id
from kurir.kit.url_rules import UrlRefused
from kurir.messages import bounds
from kurir.messages.addresses import AddressError, CountryCodeError, parse_phone
from kurir.messages.content import CAPTION_LIMIT, TEXT_LIMIT, Content, Document, Image, Text
from kurir.outbox.idempotency import Remembered
from kurir.outbox.outbox import Snapshot
from kurir.outbox.wait_reasons import reason_of
from kurir.reasons.sending import (
    CAPTION_TOO_LONG,
    COUNTRY_EXPECTED,
    FILE_EXPECTED,
    NOT_SENT,
    PHONE_EXPECTED,
    STILL_STOPPING,
    STILL_WAITING,
    TEXT_OR_PICTURE,
    UNCONFIRMED,
    URL_EXPECTED,
)
from kurir.reasons.states import state
from kurir.services.sending import NotSettled
from kurir.web.compat_v1.body import Body
from kurir.web.compat_v1.endpoint import Call, Field
from kurir.web.compat_v1.envelopes import Answer, WireError, missing, wrong
from kurir.web.gateway import Gateway

IN_DELIVERY = "The message is in the delivery process"
"""The sample's answer to every accepted send."""

IMAGE_FIELDS = ("image_url",)
FILE_FIELDS = ("file_url", "document_url")
MEDIA_FIELDS = ("url", "media_url")
"""Fields with a file's URL; `type` or the URL's ending gives its kind."""
_ANY_MEDIA = frozenset({*IMAGE_FIELDS, *FILE_FIELDS, *MEDIA_FIELDS})

METHODS = ("async", "sync")

_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"})
_NOT_READY = 3.0
"""Maximum seconds that a `sync` call waits for a device that is not connected: clients give up after five."""
_THE_REQUEST_WAS_WRONG = frozenset({"not_on_whatsapp", "not_a_group_member"})
"""Reasons of a failed send that the caller can fix in the request: they answer 405, all others 400."""


DELIVERY_FIELDS = (
    Field("enable_typing", "flag", '"1" shows "typing…" to the recipient before the message.', example="1"),
    Field(
        "method_send",
        "string",
        "`async` answers once the message is durably stored; `sync` waits for WhatsApp's answer.",
        example="async",
    ),
)
CAPTION_FIELD = Field(
    "send_as_caption",
    "flag",
    '"1" sets the message as the caption; "0" sends it as a bubble of its own after the picture.',
    example="1",
)
PHONE_FIELDS = (
    Field(
        "phone_no",
        "string",
        "The phone number, with or without country code, leading 0, + or separators.",
        required=True,
        example="81234567890",
    ),
    Field("country_code", "string", "Country code; without it the account's.", example="62"),
)


def phone_of(call: Call) -> str:
    """The phone number in E.164 digits that `phone_no` and `country_code` mean. Raises WireError 405."""
    phone_no = call.body.text("phone_no", required=True, expected=PHONE_EXPECTED)
    try:
        return parse_phone(phone_no, call.body.text("country_code"), call.account.country_code)
    except CountryCodeError as error:
        raise wrong("country_code", COUNTRY_EXPECTED) from error
    except AddressError as error:
        raise wrong("phone_no", PHONE_EXPECTED) from error


def bubbles(gateway: Gateway, body: Body, primary: Literal["image", "document"]) -> list[Content]:
    """What the request asks to send, as one or more bubbles in order.

    A picture and a file in one request are two bubbles. `message` is the first one's caption, or with
    `send_as_caption:"0"` a text after them. `primary` names the endpoint's own kind of media. Raises WireError 405.
    """
    media = _media(gateway, body, primary)
    text = body.text("message", limit=TEXT_LIMIT)
    if not media:
        if primary == "document":
            raise missing("file_url", FILE_EXPECTED)
        if not text.strip():
            raise missing("message", TEXT_OR_PICTURE)
        return [Text(text)]
    if not text.strip():
        return [*media]
    if not body.flag("send_as_caption", default=True):
        return [*media, Text(text)]
    if len(text) > CAPTION_LIMIT:
        raise WireError("405", "invalid_request", CAPTION_TOO_LONG, length=len(text), limit=CAPTION_LIMIT)
    first, *rest = media
    if isinstance(first, Image):
        return [Image(first.url, text), *rest]
    return [Document(first.url, first.file_name, text), *rest]


async def send(gateway: Gateway, call: Call, recipient: str, contents: list[Content]) -> Answer:
    """Stores the bubbles durably, in order, and answers as `method_send` asks.

    Raises WireError: on `sync` 405 or 400 when a bubble was refused, 408 when there is no outcome in time. QueueFull,
    DatabaseUnavailable and Repeated pass through; then nothing was stored.
    """
    method = _method(call)
    typing = call.body.flag("enable_typing")
    ids = await gateway.services.sending.send(
        call.number, recipient, contents, typing=typing, once=call.once, awaited=method == "sync"
    )
    if method == "sync":
        await _waited(gateway, call, ids)
    return _accepted(ids)


async def answered(gateway: Gateway, call: Call, remembered: Remembered) -> Answer:
    """The answer to a request whose bubbles are stored; raises as `send` does."""
    if _method(call) == "sync":
        await _waited(gateway, call, remembered.ids)
    return _accepted(remembered.ids)


def _method(call: Call) -> str:
    return call.body.choice("method_send", choices=METHODS, default=METHODS[0])


def _accepted(ids: list[int]) -> Answer:
    return Answer({"code": "200", "message": IN_DELIVERY, "type": "successfully"}, _named(ids))


def _named(ids: list[int]) -> dict[str, str]:
    return {"X-Message-Id": ", ".join([public_message_id(one) for one in ids])}


async def _waited(gateway: Gateway, call: Call, ids: list[int]) -> None:
    """Waits until every bubble is sent, within the timeout in all; raises WireError for the first that is not."""
    # a device that is not connected, or paused, will hardly be ready within the timeout: answer soon
    ready = gateway.services.sending.connected(call.number)
    timeout = gateway.settings.sync_timeout if ready else min(_NOT_READY, gateway.settings.sync_timeout)
    headers = _named(ids)
    try:
        async for message in gateway.services.sending.settled(call.account.id, ids, timeout):
            refusal = _refusal(message, headers)
            if refusal is not None:
                raise refusal
    except NotSettled as late:
        raise _still_waiting(late, timeout, headers) from None


def _refusal(message: Snapshot, headers: dict[str, str]) -> WireError | None:
    name = public_message_id(message.id)
    match message.state:
        case "sent" | "delivered" | "read":
            return None
        case "failed" | "expired" | "canceled":
            code = "405" if message.error_code in _THE_REQUEST_WAS_WRONG else "400"
            reason = message.error_reason or state(message.state)
            return WireError(code, "failed", NOT_SENT, headers=headers, id=name, reason=reason)
        case _:
            return WireError("408", "timeout", UNCONFIRMED, headers=headers, id=name)


def _still_waiting(late: NotSettled, waited: float, headers: dict[str, str]) -> WireError:
    name, why = public_message_id(late.message_id), reason_of(late.waiting)
    if late.waiting.cause == "stopping":
        return WireError("408", "timeout", STILL_STOPPING, headers=headers, id=name, state=state(late.state), why=why)
    return WireError(
        "408",
        "timeout",
        STILL_WAITING,
        headers=headers,
        id=name,
        seconds=f"{waited:g}",
        state=state(late.state),
        why=why,
    )


def _media(gateway: Gateway, body: Body, primary: Literal["image", "document"]) -> list[Image | Document]:
    found: list[Image | Document] = []
    if not body.has_any(_ANY_MEDIA):
        return found
    if (image := _url(gateway, body, IMAGE_FIELDS)) is not None:
        found.append(Image(image))
    if (file := _url(gateway, body, FILE_FIELDS)) is not None:
        found.append(Document(file, _file_name(body, file)))
    if not found and (url := _url(gateway, body, MEDIA_FIELDS)) is not None:
        kind = body.choice("type", choices=("image", "document", "file"), default=_kind_by_ending(url, primary))
        found.append(Image(url) if kind == "image" else Document(url, _file_name(body, url)))
    return found


def _url(gateway: Gateway, body: Body, names: tuple[str, ...]) -> str | None:
    """The URL in the first of the fields that is present, checked as far as that goes without a network."""
    for name in names:
        if body.value(name) is None:
            continue
        url = body.text(name, expected=URL_EXPECTED).strip()
        try:
            gateway.services.sending.check_url(url)
        except UrlRefused as error:
            raise wrong(name, error.reason) from error
        return url
    return None


def _kind_by_ending(url: str, primary: str) -> str:
    ending = PurePosixPath(urlsplit(url).path).suffix.lower()
    if primary == "document" or (ending and ending not in _PICTURES):
        return "document"
    return "image"


def _file_name(body: Body, url: str) -> str:
    """The name that the recipient sees: as the caller says, or the URL's last segment."""
    given = body.text("fileName", "file_name", limit=bounds.FILE_NAME)
    return given or bounds.text(unquote(PurePosixPath(urlsplit(url).path).name), bounds.FILE_NAME)
