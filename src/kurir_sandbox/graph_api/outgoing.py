"""A request to `POST /{phone_number_id}/messages`: its shape, limits and defaults. Pure.

Limits are Meta's ("Messages" reference): text 4,096 characters, captions 1,024, latitude and longitude mandatory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from kurir_sandbox.graph_api.bubbles import fill
from kurir_sandbox.graph_api.errors import GraphError, invalid, missing
from kurir_sandbox.graph_api.parameters import Json, array, degrees, optional_text, table, text
from kurir_sandbox.graph_api.templates import NewTemplate
from kurir_sandbox.json_values import JsonValue
from kurir_sandbox.traffic import Content, Place, TemplateUse

MEDIA_TYPES = ("image", "video", "audio", "document", "sticker")


@dataclass(frozen=True, slots=True)
class MediaSource:
    """Where the bytes come from: an uploaded media `id`, or a `link` to fetch. `type` is one of MEDIA_TYPES."""

    type: str
    id: str = ""
    link: str = ""
    filename: str = ""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send. `content` still lacks its media, which `source` names; `to` is digits."""

    to: str
    given_to: str
    content: Content
    source: MediaSource | None = None
    reply_to: str | None = None
    opaque: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A "mark as read" request: the inbound message, and whether to show the typing indicator."""

    message_id: str
    typing: bool


def require_product(body: Json) -> None:
    """`messaging_product` must be "whatsapp"."""
    if body.get("messaging_product") is None:
        raise GraphError(100, message="(#100) The parameter messaging_product is required.")
    if body["messaging_product"] != "whatsapp":
        raise GraphError(
            100,
            message="(#100) Param messaging_product must be one of {WHATSAPP} - got "
            f'"{str(body["messaging_product"])[:40]}".',
        )


def seen(body: Json) -> Seen:
    """Read a request with `status`: "read"."""
    if body["status"] != "read":
        raise invalid("status", 'must be "read"')
    indicator: JsonValue = body.get("typing_indicator")
    if indicator is not None and (not isinstance(indicator, dict) or indicator.get("type") != "text"):
        raise invalid("typing_indicator.type", 'must be "text"')
    return Seen(text(body, "message_id"), indicator is not None)


def template_named(body: Json) -> tuple[str, str] | None:
    """The (name, language code) of the template a request wants, None when it is no template message."""
    if body.get("type") != "template":
        return None
    template = table(body, "template")
    return (
        text(template, "name", "template."),
        text(table(template, "language", "template."), "code", "template.language."),
    )


def outgoing(body: Json, template: NewTemplate | None = None) -> Outgoing:
    """Read a send request; `template` is the approved one it names, if it names one.

    Raises GraphError 100, 131008, 131009, 131051 or 132xxx, naming the parameter.
    """
    if body.get("recipient_type", "individual") != "individual":
        raise invalid("recipient_type", 'must be "individual"')
    given_to = optional_text(body, "to")
    if not given_to:
        raise GraphError(100, message="(#100) The parameter to is required.")
    to = re.sub(r"[^0-9]", "", given_to)
    if not re.fullmatch(r"[+0-9\s().-]+", given_to) or not 5 <= len(to) <= 20:
        raise invalid("to", "is not a valid phone number")
    content, source = _content(body, template)
    context: JsonValue = body.get("context")
    if context is not None and not isinstance(context, dict):
        raise invalid("context", "must be an object")
    return Outgoing(
        to,
        given_to,
        content,
        source,
        text(context, "message_id", "context.") if context else None,
        optional_text(body, "biz_opaque_callback_data", longest=512),
    )


def _content(body: Json, template: NewTemplate | None) -> tuple[Content, MediaSource | None]:
    kind = optional_text(body, "type") or "text"
    if kind in MEDIA_TYPES:
        return _media(kind, table(body, kind), f"{kind}.")
    if kind == "template":
        assert template is not None, "the caller looks the template up first"
        return _template(table(body, "template"), template)
    reader = _READERS.get(kind)
    if reader is None:
        raise invalid("type", f"must be one of {', '.join((*_READERS, *MEDIA_TYPES, 'template'))}")
    return reader(body), None


def _text(body: Json) -> Content:
    words = text(table(body, "text"), "body", "text.", 4096)
    if not words.strip():
        raise missing("text.body")
    return Content("text", text=words, bubble=words)


def _media(kind: str, media: Json, path: str) -> tuple[Content, MediaSource]:
    media_id, link = optional_text(media, "id", path), optional_text(media, "link", path)
    if bool(media_id) == bool(link):
        raise missing(f"{path}id or {path}link (exactly one)")
    if link and not re.match(r"https?://[^\s/]+", link):
        raise invalid(path + "link", "must be an http or https address")
    if media_id and not re.fullmatch(r"[0-9]+", media_id):
        raise invalid(path + "id", "is not a media id")
    caption = optional_text(media, "caption", path, 1024) or ""
    if caption and kind in ("audio", "sticker"):
        raise invalid(path + "caption", f"is not allowed for {kind}")
    filename = optional_text(media, "filename", path, 240) or ""
    shown = kind if kind in ("image", "document") else "unsupported"
    source = MediaSource(kind, media_id or "", link or "", filename if kind == "document" else "")
    return Content(shown, caption=caption, bubble=caption or f"[{kind}]"), source


def _location(body: Json) -> Content:
    pin = table(body, "location")
    place = Place(
        degrees(pin, "latitude", "location.", 90),
        degrees(pin, "longitude", "location.", 180),
        optional_text(pin, "name", "location.", 1000) or "",
        optional_text(pin, "address", "location.", 1000) or "",
    )
    return Content("location", place=place, bubble=place.name or f"{place.latitude}, {place.longitude}")


def _reaction(body: Json) -> Content:
    reaction = table(body, "reaction")
    text(reaction, "message_id", "reaction.")
    emoji = optional_text(reaction, "emoji", "reaction.", 32)
    if emoji is None:
        raise missing("reaction.emoji")
    return Content("reaction", text=emoji, bubble=emoji)


def _contacts(body: Json) -> Content:
    cards: list[JsonValue] = array(body, "contacts")
    if not cards:
        raise missing("contacts")
    names: list[str] = []
    for card in cards:
        if not isinstance(card, dict):
            raise invalid("contacts", "must be an array of objects")
        names.append(text(table(card, "name", "contacts."), "formatted_name", "contacts.name."))
    return Content("contact", text=", ".join(names), bubble=", ".join(names))


def _interactive(body: Json) -> Content:
    interactive = table(body, "interactive")
    text(interactive, "type", "interactive.")
    words = text(table(interactive, "body", "interactive."), "text", "interactive.body.", 4096)
    table(interactive, "action", "interactive.")
    return Content("unsupported", bubble=words)


def _template(sent: Json, template: NewTemplate) -> tuple[Content, MediaSource | None]:
    filled = fill(template, array(sent, "components", "template."))
    source = None
    if filled.media:
        kind, media = filled.media
        _, source = _media(kind, media, f"template.components.header.{kind}.")
    use = TemplateUse(template.name, template.language, filled.parameters)
    return Content("template", template=use, place=filled.place, bubble=filled.bubble), source


_READERS: dict[str, Any] = {
    "text": _text,
    "location": _location,
    "reaction": _reaction,
    "contacts": _contacts,
    "interactive": _interactive,
}
