"""Section "Sending Message – Group": text, picture and file to a group that the linked device is a member of."""

from __future__ import annotations

from kurir.messages.addresses import AddressError, parse_group
from kurir.reasons.sending import GROUP_EXPECTED
from kurir.web.compat_v1.endpoint import Call, Endpoint, Field
from kurir.web.compat_v1.envelopes import Answer, wrong
from kurir.web.compat_v1.sending import CAPTION_FIELD, DELIVERY_FIELDS, IN_DELIVERY, answered, bubbles, send
from kurir.web.gateway import Gateway

SECTION = "Sending Message – Group"
_ANSWER = {"code": "200", "message": IN_DELIVERY, "type": "successfully"}
_GROUP_FIELD = Field(
    "group_id",
    "string",
    "The group's id, as `grab` lists it, bare or with @g.us. The sender must be a member.",
    required=True,
    example="120363322806000000",
)


async def send_group_message(gateway: Gateway, call: Call) -> Answer:
    """A text, a picture with or without caption, or a picture and then a text; a `file_url` sends the file."""
    return await send(gateway, call, _group_of(call), bubbles(gateway, call.body, "image"))


async def send_group_file(gateway: Gateway, call: Call) -> Answer:
    """A file, `message` being its caption."""
    return await send(gateway, call, _group_of(call), bubbles(gateway, call.body, "document"))


def _group_of(call: Call) -> str:
    group_id = call.body.text("group_id", required=True, expected=GROUP_EXPECTED)
    try:
        return parse_group(group_id)
    except AddressError as error:
        raise wrong("group_id", GROUP_EXPECTED) from error


ENDPOINTS = (
    Endpoint(
        path="send_group_message",
        section=SECTION,
        summary="Send a text or a picture to a group",
        handler=send_group_message,
        credential="api_key",
        number_field="number_id",
        fields=(
            _GROUP_FIELD,
            Field("message", "string", "The text, at most 4096 characters (a caption: 1024).", example="Hello, all!"),
            Field(
                "image_url", "string", "Where the picture is: JPEG or PNG, at most 5 MB.", aliases=("url", "media_url")
            ),
            CAPTION_FIELD,
            *DELIVERY_FIELDS,
        ),
        request_sample={
            "enable_typing": "1",
            "method_send": "async",
            "group_id": "120363322806000000",
            "message": "Hello, all! We open at nine tomorrow.",
        },
        answer_sample=_ANSWER,
        replay=answered,
    ),
    Endpoint(
        path="send_group_file",
        section=SECTION,
        summary="Send a file to a group",
        handler=send_group_file,
        credential="api_key",
        number_field="number_id",
        fields=(
            _GROUP_FIELD,
            Field(
                "file_url",
                "string",
                "Where the file is, at most 100 MB; the URL's last segment is its name.",
                required=True,
                example="https://example.com/prices.pdf",
                aliases=("document_url", "url", "media_url"),
            ),
            Field("message", "string", "The caption, at most 1024 characters.", example="Prices for May"),
            *DELIVERY_FIELDS,
        ),
        request_sample={
            "enable_typing": "0",
            "method_send": "async",
            "group_id": "120363322806000000",
            "message": "Prices for May",
            "file_url": "https://example.com/prices.pdf",
        },
        answer_sample=_ANSWER,
        replay=answered,
    ),
)
