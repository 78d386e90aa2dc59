"""Section "Conversation": free text, picture, file or place from an official number, inside the 24-hour window.

The window opens, and is reset, whenever the person writes (Meta, "Customer service windows"). While it is closed
Meta would take the message and fail it later; here it is refused at once and nothing is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, assert_never

from kurir.kit.ids import public_message_id
from kurir.messages.content import Content, Document, Image, Location, TemplateUse, Text, kind_of
from kurir.outbox.idempotency import Remembered
from kurir.outbox.outbox import NotSettledYet, Snapshot
from kurir.outbox.wait_reasons import OF_ITS_OWN, UNKNOWN, Waiting, reason_of
from kurir.reasons import sentence
from kurir.reasons.sending import META_PAUSED, META_STILL_WAITING, META_UNCONFIRMED, ONE_EXPECTED, WINDOW_CLOSED
from kurir.reasons.states import state
from kurir.web.compat_v1.endpoint import Call, Endpoint, Field
from kurir.web.compat_v1.envelopes import Answer, wrong
from kurir.web.compat_v1.recipients import PLATFORMS, RECIPIENT_FIELDS, recipients_in
from kurir.web.compat_v1.sending import CAPTION_FIELD, METHODS, bubbles
from kurir.web.gateway import Gateway

SECTION = "Conversation"
_KINDS = ("", "text", "image", "document", "file", "location")
_PLACE_LIMIT = 1000
_IN_ALL = 4.0
"""Seconds after which a caller who did not ask to wait gets an answer, whatever took so long."""
_LATEST = 4.5
"""Seconds after which even the message's state is no longer looked up for that caller."""

QUEUED = "Message queued to be sent."


async def send_meta_personal_message(gateway: Gateway, call: Call) -> Answer:
    """Sends one message and answers with its `wamid`, or with our own id when Meta has not answered in time."""
    call.body.choice("platform", choices=PLATFORMS, default=PLATFORMS[-1])
    sync = _waits(call)
    recipients = recipients_in(call, "reciptient")
    if len(recipients) > 1:
        raise wrong("reciptient", ONE_EXPECTED)
    [to] = recipients
    contents = _contents(gateway, call)
    if not await gateway.services.sending.window_open(call.number, to):
        gateway.metrics.refused("window_closed")
        return _failed(to, sentence(WINDOW_CLOSED(to=to), call.account.language), {})
    ids = await gateway.services.sending.send(call.number, to, contents, once=call.once, awaited=True)
    return await _sent(gateway, call, ids, to, contents[0], sync=sync)


async def conversation_sent(gateway: Gateway, call: Call, remembered: Remembered) -> Answer:
    """The answer to a request whose messages were stored before: Meta's id for the first, once there is one."""
    [to] = recipients_in(call, "reciptient")
    return await _sent(gateway, call, remembered.ids, to, _contents(gateway, call)[0], sync=_waits(call))


def _waits(call: Call) -> bool:
    """Whether the caller asked to wait for Meta's answer."""
    return call.body.choice("method_send", choices=METHODS, default=METHODS[0]) == "sync"


async def _sent(gateway: Gateway, call: Call, ids: list[int], to: str, content: Content, *, sync: bool) -> Answer:
    """The answer to a request whose messages are stored, of which `content` is the first."""
    ours = ids[0]
    headers = {"X-Message-Id": ", ".join(map(public_message_id, ids))}
    timeout = gateway.settings.sync_timeout
    if call.number.paused:
        timeout = 0.0  # only a person can resume it
    elif not sync:  # storing it may have taken most of the caller's time
        left = max(0.0, call.now + _IN_ALL - gateway.clock())
        timeout = min(gateway.settings.meta_answer_timeout, left)
    actions = gateway.services.message_actions
    try:
        async with asyncio.timeout(None if sync else max(0.0, call.now + _LATEST - gateway.clock())):
            message = await gateway.services.sending.wait(call.account.id, ours, timeout)
            open_still = message.state in {"queued", "sending"}
            waiting = await actions.waits_for(call.account.id, ours) if open_still else UNKNOWN
    except (NotSettledYet, TimeoutError):
        shown = _shown(call, content, to)
        return _waiting(call, shown, public_message_id(ours), headers, sync=sync, waiting=actions.unseen())
    return _answer(call, message, content, headers, sync=sync, waiting=waiting)


def _contents(gateway: Gateway, call: Call) -> list[Content]:
    """The content to send, from the request's fields. Raises WireError 405."""
    body = call.body
    kind = body.choice("messageType", "message_type", choices=_KINDS, default="")
    if kind == "location" or (not kind and body.value("latitude", "longitude") is not None):
        return [
            Location(
                latitude=body.number("latitude", least=-90, most=90),
                longitude=body.number("longitude", least=-180, most=180),
                name=body.text("nameLocation", "name_location", limit=_PLACE_LIMIT),
                address=body.text("addressLocation", "address", limit=_PLACE_LIMIT),
            )
        ]
    return bubbles(gateway, body, "document" if kind in {"document", "file"} else "image")


def _answer(
    call: Call, message: Snapshot, content: Content, headers: dict[str, str], *, sync: bool, waiting: Waiting
) -> Answer:
    language = call.account.language
    ours = public_message_id(message.id)
    shown = _shown(call, content, message.recipient)
    match message.state:
        case "sent" | "delivered" | "read":
            return _message_answer("200", shown("successfully", message.remote_id or ours), "successfully", headers)
        case "failed" | "expired" | "canceled":
            return _failed(message.recipient, sentence(message.error_reason or state(message.state), language), headers)
        case "unconfirmed":
            detail = sentence(META_UNCONFIRMED(), language)
            return _message_answer("408", {**shown("unconfirmed", ours), "detail": detail}, "timeout", headers)
        case "queued" | "sending":
            return _waiting(call, shown, ours, headers, sync=sync, waiting=waiting)
        case _:
            assert_never(message.state)


def _shown(call: Call, content: Content, to: str) -> Callable[[str, str], dict[str, Any]]:
    """The object that the answer holds for a message in a state, under an id."""
    return lambda state, identifier: {
        "state": state,
        "message_id": identifier,
        "to": to,
        "type": kind_of(content),
        **_details(call, content),
    }


def _waiting(
    call: Call,
    shown: Callable[[str, str], dict[str, Any]],
    ours: str,
    headers: dict[str, str],
    *,
    sync: bool,
    waiting: Waiting = UNKNOWN,
) -> Answer:
    language = call.account.language
    if waiting.cause == "paused":
        detail = sentence(META_PAUSED(reason=waiting.reason, number=waiting.number), language)
    else:
        detail = sentence(META_STILL_WAITING(why=reason_of(waiting)), language)
    if not sync:
        # the sample's text stays when no action is needed
        body = shown("queued", ours) | ({} if waiting.cause in OF_ITS_OWN else {"detail": detail})
        return _message_answer("200", body, "successfully", headers)
    return _message_answer("408", {**shown("queued", ours), "detail": detail}, "timeout", headers)


def _details(call: Call, content: Content) -> dict[str, str]:
    match content:
        case Text() | TemplateUse():
            return {"detail": QUEUED}
        case Image(url, caption):
            return {"url": url, "caption": caption}
        case Document(url, file_name):
            return {"fileName": file_name, "url": url}
        case Location(name=name):
            # the caller's own spelling of the degrees, as texts
            latitude, longitude = call.body.text("latitude"), call.body.text("longitude")
            return {"latitude": latitude, "longitude": longitude, "nameLocation": name}
        case _:
            assert_never(content)


def _failed(to: str, detail: str, headers: dict[str, str]) -> Answer:
    return _message_answer("400", {"state": "failed", "detail": detail, "to": to}, "failed", headers)


def _message_answer(code: str, message: dict[str, Any], kind: str, headers: dict[str, str]) -> Answer:
    body: dict[str, Any] = {"code": code, "message": message, "type": kind}
    if code == "200":
        body["template"] = None
    return Answer(body, headers)


ENDPOINTS = (
    Endpoint(
        path="send_meta_personal_message",
        section=SECTION,
        summary="Send a text, picture, file or place inside the 24-hour window",
        handler=send_meta_personal_message,
        credential="secret_key",
        number_field="licenses_key",
        fields=(
            Field(
                "reciptient",
                "string",
                "The phone number (the reference's own spelling).",
                required=True,
                example="6281234567890",
                aliases=("recipient", "recipients"),
            ),
            *RECIPIENT_FIELDS,
            Field("message", "string", "The text, at most 4096 characters (a caption: 1024).", example="Halo"),
            Field("image_url", "string", "Where the picture is: JPEG or PNG, at most 5 MB."),
            CAPTION_FIELD,
            Field("file_url", "string", "Where the file is, at most 100 MB."),
            Field("fileName", "string", "The file name that the recipient sees.", aliases=("file_name",)),
            Field("latitude", "number", "Degrees, -90 to 90.", example="-6.2"),
            Field("longitude", "number", "Degrees, -180 to 180.", example="106.816666"),
            Field("nameLocation", "string", "The place's name.", aliases=("name_location",)),
            Field("addressLocation", "string", "The place's address.", aliases=("address",)),
            Field("messageType", "string", "text, image, document or location; else by the fields that are there."),
            Field("platform", "string", f"One of {', '.join(PLATFORMS)}.", example="whatsapp"),
            Field("method_send", "string", "Both wait for Meta's answer; sync waits longer.", example="async"),
        ),
        request_sample={
            "reciptient": "6281234567890",
            "platform": "whatsapp",
            "message": "Halo, ini pesan dari API.",
            "method_send": "async",
        },
        answer_sample={
            "code": "200",
            "message": {
                "state": "successfully",
                "message_id": "wamid.HBgNNjI4MTIzNDU2Nzg5MBUCABEYEjkxRkU",
                "to": "6281234567890",
                "type": "text",
                "detail": QUEUED,
            },
            "type": "successfully",
            "template": None,
        },
        replay=conversation_sent,
    ),
)
