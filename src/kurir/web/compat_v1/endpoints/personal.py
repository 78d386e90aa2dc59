"""Section "Sending Message – Personal": text, picture and file to one phone number over a linked device."""

from __future__ import annotations

from kurir.web.compat_v1.endpoint import Call, Endpoint, Field
from kurir.web.compat_v1.envelopes import Answer
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

SECTION = "Sending Message – Personal"
_ANSWER = {"code": "200", "message": IN_DELIVERY, "type": "successfully"}


async def send_personal_message(gateway: Gateway, call: Call) -> Answer:
    """A text, a picture with or without caption, or a picture and then a text."""
    return await send(gateway, call, phone_of(call), bubbles(gateway, call.body, "image"))


async def send_personal_file(gateway: Gateway, call: Call) -> Answer:
    """A file, `message` being its caption."""
    return await send(gateway, call, phone_of(call), bubbles(gateway, call.body, "document"))


ENDPOINTS = (
    Endpoint(
        path="send_personal_message",
        section=SECTION,
        summary="Send a text or a picture to a phone number",
        handler=send_personal_message,
        credential="api_key",
        number_field="number_id",
        fields=(
            *PHONE_FIELDS,
            Field("message", "string", "The text, at most 4096 characters (a caption: 1024).", example="Hello, Sari!"),
            Field(
                "image_url", "string", "Where the picture is: JPEG or PNG, at most 5 MB.", aliases=("url", "media_url")
            ),
            CAPTION_FIELD,
            *DELIVERY_FIELDS,
        ),
        request_sample={
            "enable_typing": "1",
            "method_send": "async",
            "phone_no": "81234567890",
            "country_code": "62",
            "message": "Hello, Sari! Your order is on its way.",
        },
        answer_sample=_ANSWER,
        replay=answered,
    ),
    Endpoint(
        path="send_personal_file",
        section=SECTION,
        summary="Send a file to a phone number",
        handler=send_personal_file,
        credential="api_key",
        number_field="number_id",
        fields=(
            *PHONE_FIELDS,
            Field(
                "file_url",
                "string",
                "Where the file is, at most 100 MB; the URL's last segment is its name.",
                required=True,
                example="https://example.com/invoice.pdf",
                aliases=("document_url", "url", "media_url"),
            ),
            Field("message", "string", "The caption, at most 1024 characters.", example="Your invoice"),
            *DELIVERY_FIELDS,
        ),
        request_sample={
            "enable_typing": "0",
            "method_send": "async",
            "phone_no": "81234567890",
            "country_code": "62",
            "message": "Your invoice",
            "file_url": "https://example.com/invoice.pdf",
        },
        answer_sample=_ANSWER,
        replay=answered,
    ),
)
