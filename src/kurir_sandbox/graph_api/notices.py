"""The values inside callbacks: message statuses, inbound messages, template reviews. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kurir_sandbox.graph_api.errors import status_error
from kurir_sandbox.graph_api.templates import Template
from kurir_sandbox.policy import CUSTOMER_SERVICE_WINDOW, Price
from kurir_sandbox.traffic import Content
from kurir_sandbox.world import Business, Person

_RECOMMENDATIONS = {
    "INCORRECT_CATEGORY": "Choose the category MARKETING, or take promotional words out.",
    "INVALID_FORMAT": "Use the full address instead of a shortened link.",
}


def messages_value(business: Business, **parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The value of field "messages": metadata of the number and `contacts`, `messages` or `statuses`."""
    metadata = {"display_phone_number": business.phone, "phone_number_id": business.phone_number_id}
    return {"messaging_product": "whatsapp", "metadata": metadata, **parts}


def status(wire_id: str, kind: str, recipient: str, at: float, opaque: str | None) -> dict[str, Any]:
    """A status of a message that the business sent; `at` in unix seconds."""
    plain = {"id": wire_id, "status": kind, "timestamp": str(int(at)), "recipient_id": recipient}
    return {**plain, "biz_opaque_callback_data": opaque} if opaque is not None else plain


def charged(plain: dict[str, Any], conversation_id: str, price: Price) -> dict[str, Any]:
    """`plain` with conversation and pricing; the conversation's end rides on "sent" only."""
    conversation: dict[str, Any] = {"id": conversation_id, "origin": {"type": price.category}}
    if plain["status"] == "sent":
        conversation["expiration_timestamp"] = str(int(plain["timestamp"]) + int(CUSTOMER_SERVICE_WINDOW))
    return {**plain, "conversation": conversation, "pricing": asdict(price)}


def failed(plain: dict[str, Any], code: int, details: str) -> dict[str, Any]:
    """`plain` as a failure with its error."""
    return {**plain, "status": "failed", "errors": [status_error(code, details)]}


def contact(person: Person) -> dict[str, Any]:
    """Who wrote: the profile name and number."""
    return {"profile": {"name": person.name}, "wa_id": person.phone}


def inbound(
    sender: str,
    wire_id: str,
    at: float,
    content: Content,
    *,
    media: dict[str, Any] | None = None,
    context: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A message that a person wrote. `media` is {id, mime_type, sha256}, `context` {from, id} of the answered one."""
    plain: dict[str, Any] = {"from": sender, "id": wire_id, "timestamp": str(int(at))}
    if context:
        plain = {"context": context, **plain}
    kind = content.kind
    if kind == "text":
        body: dict[str, Any] = {"type": "text", "text": {"body": content.text}}
    elif kind in ("image", "document") and media is not None:
        caption = {"caption": content.caption} if content.caption else {}
        name = {"filename": content.media.name} if kind == "document" and content.media else {}
        body = {"type": kind, kind: {**caption, **name, **media}}
    elif kind == "location" and content.place:
        place = {key: value for key, value in asdict(content.place).items() if value != ""}
        body = {"type": "location", "location": place}
    elif kind == "reaction":
        body = {"type": "reaction", "reaction": {"message_id": (context or {}).get("id", ""), "emoji": content.text}}
    elif kind == "contact":
        name = {"formatted_name": content.text, "first_name": content.text}
        body = {"type": "contacts", "contacts": [{"name": name}]}
    else:
        error = status_error(131051, "Message type is currently not supported.")
        body = {"type": "unsupported", "errors": [error]}
    return {**plain, **body}


def template_update(template: Template) -> dict[str, Any]:
    """The value of field "message_template_status_update"; Meta gives the template's id as an integer here."""
    value: dict[str, Any] = {
        "event": template.status,
        "message_template_id": int(template.id),
        "message_template_name": template.name,
        "message_template_language": template.language,
        "message_template_category": template.category,
        "reason": template.rejected_reason,
    }
    if template.status == "REJECTED":
        recommendation = _RECOMMENDATIONS.get(template.rejected_reason, "")
        value["rejection_info"] = {"reason": template.rejected_reason, "recommendation": recommendation}
    return value
