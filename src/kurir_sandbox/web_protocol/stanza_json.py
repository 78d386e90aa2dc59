"""Stanzas as JSON, for the control API: `{"tag", "attributes", "children" | "content" | "text"}`.

An attribute is a string, null (left out), or an object with one of `text`, `jid` and `base64`. A string that is an
address ("…@lid", "…@g.us", "s.whatsapp.net") is one on the wire too, because clients distinguish addresses from text;
`text` marks it as text all the same, `base64` holds bytes that need not be UTF-8. `content` is base64, `text` is UTF-8.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from kurir_sandbox.json_values import JsonValue

from . import codec
from .stanza import JID, Attribute, Node, StanzaError

MAX_DEPTH = 20
MAX_STANZA = 12 * 1024 * 1024
"""Bytes; a frame holds 16 MB, and a message is wrapped and sealed on its way."""
_KEYS = ("tag", "attributes", "children", "content", "text")
_ADDRESS = re.compile(
    r"s\.whatsapp\.net|g\.us"
    r"|[^@\s]+@(?:s\.whatsapp\.net|lid|g\.us|c\.us|broadcast|newsletter|call|hosted|hosted\.lid|msgr|interop|bot)"
)
# always text, whatever they look like: people choose their names, senders their ids
_TEXTS = ("notify", "id", "display_name", "pushname", "subject")


class FormError(ValueError):
    """JSON that is no stanza. `field` is where, the text says why."""

    def __init__(self, field: str, reason: str) -> None:
        self.field, self.reason = field, reason
        super().__init__(f"{field} {reason}")


def node(given: JsonValue, field: str, depth: int = 0) -> Node:
    """The stanza that `given` describes. Raises FormError."""
    if not isinstance(given, dict):
        raise FormError(field, "must be an object with tag, attributes, and children, content or text")
    unknown = next((key for key in given if key not in _KEYS), None)
    if unknown is not None:
        raise FormError(f"{field}.{unknown}", f"is no part of a stanza; those are {', '.join(_KEYS)}")
    tag = given.get("tag")
    if not isinstance(tag, str) or not tag:
        raise FormError(f"{field}.tag", "must be a non-empty string")
    filled = [key for key in ("children", "content", "text") if given.get(key) is not None]
    if len(filled) > 1:
        raise FormError(f"{field}.{filled[1]}", f"cannot stand beside {filled[0]}")
    attrs = attributes(given.get("attributes"), f"{field}.attributes")
    if filled == ["children"]:
        return Node(tag, attrs, nodes(given["children"], f"{field}.children", depth))
    if filled == ["content"]:
        return Node(tag, attrs, octets(given["content"], f"{field}.content"))
    if not filled:
        return Node(tag, attrs)
    if not isinstance(given["text"], str):
        raise FormError(f"{field}.text", "must be a string")
    return Node(tag, attrs, given["text"].encode())


def nodes(given: JsonValue, field: str, depth: int = 0) -> list[Node]:
    """A list of stanzas; None is an empty one. Raises FormError."""
    if given is None:
        return []
    if not isinstance(given, list):
        raise FormError(field, "must be an array")
    if depth >= MAX_DEPTH:
        raise FormError(field, f"is nested deeper than {MAX_DEPTH}")
    return [node(each, f"{field}.{index}", depth + 1) for index, each in enumerate(given)]


def attributes(given: JsonValue, field: str) -> dict[str, Attribute | None]:
    """Attributes by name; None is none. Raises FormError."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise FormError(field, "must be an object")
    return {name: _attribute(name, value, f"{field}.{name}") for name, value in given.items()}


def octets(given: JsonValue, field: str) -> bytes:
    """Bytes in base64, empty ones too. Raises FormError."""
    if isinstance(given, str):
        try:
            return base64.b64decode(given, validate=True)
        except (binascii.Error, ValueError):
            pass
    raise FormError(field, "must be base64")


def shown(stanza: Node) -> dict[str, Any]:
    """The JSON form of a stanza, as `node` reads it."""
    known: dict[str, Any] = {"tag": stanza.tag, "attributes": shown_attributes(stanza.attrs)}
    if isinstance(stanza.content, list):
        known["children"] = [shown(child) for child in stanza.content]
    elif stanza.content is not None:
        known["content"] = base64.b64encode(stanza.content).decode()
    return known


def shown_attributes(attrs: Any) -> dict[str, Any]:
    """The JSON form of attributes, as `attributes` reads it."""
    return {name: _shown_attribute(name, value) for name, value in attrs.items()}


def _attribute(name: str, given: JsonValue, field: str) -> Attribute | None:
    if given is None:
        return None
    if isinstance(given, str):
        return _jid(given, field) if name not in _TEXTS and _ADDRESS.fullmatch(given) else given
    if isinstance(given, dict) and len(given) == 1:
        (kind, value) = next(iter(given.items()))
        if kind == "base64":
            return octets(value, field)
        if kind in ("text", "jid") and isinstance(value, str):
            return value if kind == "text" else _jid(value, field)
    raise FormError(field, "must be a string, null, or an object with one of text, jid, base64")


def check_size(stanza: Node, field: str, largest: int = MAX_STANZA) -> None:
    """Raises FormError for a stanza that no frame can hold."""
    try:
        size = len(codec.encode(stanza))
    except codec.CodecError as error:
        raise FormError(field, f"does not fit in a stanza: {error}") from None
    if size > largest:
        raise FormError(field, f"has {size} bytes on the wire, at most {largest} fit in a frame")


def _jid(text: str, field: str) -> JID:
    try:
        found = JID.parse(text)
        codec.encode(Node("x", {"x": found}))
    except (StanzaError, codec.CodecError) as error:
        raise FormError(field, f"is no address: {error}") from None
    return found


def _shown_attribute(name: str, value: Attribute | None) -> Any:
    if value is None or isinstance(value, JID):
        return None if value is None else {"jid": str(value)} if name in _TEXTS else str(value)
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    return value if _attribute(name, value, name) == value else {"text": value}
