"""Sections "Sending Message – Group" and "– Personal": text, picture and file over a linked device.

Both sections have the same two endpoints; an `_Addressee` is what differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from kurir.messages.addresses import AddressError, parse_group
from kurir.web.compat_v1.endpoint import Call, Endpoint, Field
from kurir.web.compat_v1.envelopes import Answer, Phrase, wrong
from kurir.web.compat_v1.sending import (
    CAPTION_FIELD,
    DELIVERY_FIELDS,
    IN_DELIVERY,
    PHONE_FIELDS,
    answered,
    bubbles,
    phone_of,
    send,
)
from kurir.web.gateway import Gateway

GROUP_EXPECTED = Phrase(
    id="ID grup, mis. 120363322806000000 (lihat `grab`)", en="a group's id such as 120363322806000000 (see `grab`)"
)
_ANSWER = {"code": "200", "message": IN_DELIVERY, "type": "successfully"}


@dataclass(frozen=True, slots=True)
class _Addressee:
    """Whom the two endpoints of a section send to: how that is named, read, and shown in examples."""

    section: str
    word: str
    article: str
    recipient_of: Callable[[Call], str]
    fields: tuple[Field, ...]
    sample: dict[str, Any]
    greeting: str
    text: str
    file_text: str
    file_url: str


def _group_of(call: Call) -> str:
    group_id = call.body.text("group_id", required=True, expected=GROUP_EXPECTED)
    try:
        return parse_group(group_id)
    except AddressError as error:
        raise wrong("group_id", GROUP_EXPECTED) from error


_GROUP = _Addressee(
    section="Sending Message – Group",
    word="group",
    article="a group",
    recipient_of=_group_of,
    fields=(
        Field(
            "group_id",
            "string",
            "The group's id, as `grab` lists it, bare or with @g.us. The sender must be a member.",
            required=True,
            example="120363322806000000",
        ),
    ),
    sample={"group_id": "120363322806000000"},
    greeting="Hello, all!",
    text="Hello, all! We open at nine tomorrow.",
    file_text="Prices for May",
    file_url="https://example.com/prices.pdf",
)
_PERSON = _Addressee(
    section="Sending Message – Personal",
    word="personal",
    article="a phone number",
    recipient_of=phone_of,
    fields=PHONE_FIELDS,
    sample={"phone_no": "81234567890", "country_code": "62"},
    greeting="Hello, Sari!",
    text="Hello, Sari! Your order is on its way.",
    file_text="Your invoice",
    file_url="https://example.com/invoice.pdf",
)


def _endpoint(
    to: _Addressee,
    kind: Literal["message", "file"],
    *,
    summary: str,
    fields: tuple[Field, ...],
    sample: dict[str, str],
) -> Endpoint:
    async def handler(gateway: Gateway, call: Call) -> Answer:
        primary = "document" if kind == "file" else "image"
        return await send(gateway, call, to.recipient_of(call), bubbles(gateway, call.body, primary))

    return Endpoint(
        path=f"send_{to.word}_{kind}",
        section=to.section,
        summary=f"Send {summary} to {to.article}",
        handler=handler,
        credential="api_key",
        number_field="number_id",
        fields=(*to.fields, *fields, *DELIVERY_FIELDS),
        request_sample={
            "enable_typing": "0" if kind == "file" else "1",
            "method_send": "async",
            **to.sample,
            **sample,
        },
        answer_sample=_ANSWER,
        replay=answered,
    )


def _message(to: _Addressee) -> Endpoint:
    """A text, a picture with or without caption, or a picture and then a text; a `file_url` sends the file."""
    return _endpoint(
        to,
        "message",
        summary="a text or a picture",
        fields=(
            Field("message", "string", "The text, at most 4096 characters (a caption: 1024).", example=to.greeting),
            Field(
                "image_url", "string", "Where the picture is: JPEG or PNG, at most 5 MB.", aliases=("url", "media_url")
            ),
            CAPTION_FIELD,
        ),
        sample={"message": to.text},
    )


def _file(to: _Addressee) -> Endpoint:
    """A file, `message` being its caption."""
    return _endpoint(
        to,
        "file",
        summary="a file",
        fields=(
            Field(
                "file_url",
                "string",
                "Where the file is, at most 100 MB; the URL's last segment is its name.",
                required=True,
                example=to.file_url,
                aliases=("document_url", "url", "media_url"),
            ),
            Field("message", "string", "The caption, at most 1024 characters.", example=to.file_text),
        ),
        sample={"message": to.file_text, "file_url": to.file_url},
    )


ENDPOINTS = tuple(build(to) for to in (_GROUP, _PERSON) for build in (_message, _file))
