"""The body of `POST /{phone_number_id}/messages` for each kind of content. Pure.

Source: Meta, Cloud API reference, `messages/*`. The gateway's message id is sent in `biz_opaque_callback_data`; Meta
repeats it in every status of that message, which settles an attempt whose answer was lost.
"""

from __future__ import annotations

from typing import Any, assert_never

from kurir.messages.content import Content, Document, Image, Location, Outgoing, TemplateUse, Text


def message_body(outgoing: Outgoing, media_id: str = "") -> dict[str, Any]:
    """The JSON that sends `outgoing`; `media_id` is the uploaded file's id, for Image and Document only."""
    kind, value = _typed(outgoing.content, media_id, outgoing.media.name if outgoing.media else "")
    return {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": outgoing.recipient,
        "type": kind,
        kind: value,
        "biz_opaque_callback_data": str(outgoing.message_id),
    }


def _typed(content: Content, media_id: str, stored_name: str) -> tuple[str, dict[str, Any]]:
    match content:
        case Text(body):
            return "text", {"body": body}
        case Image(caption=caption):
            return "image", _without_empty({"id": media_id, "caption": caption})
        case Document(file_name=file_name, caption=caption):
            return "document", _without_empty(
                {"id": media_id, "caption": caption, "filename": stored_name or file_name}
            )
        case Location(latitude, longitude, name, address):
            place = _without_empty({"name": name, "address": address})
            return "location", {"latitude": latitude, "longitude": longitude, **place}
        case TemplateUse(name, language, components):
            template: dict[str, Any] = {"name": name, "language": {"code": language}}
            if components:
                template["components"] = components
            return "template", template
        case _:
            assert_never(content)


def _without_empty(fields: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in fields.items() if value}
