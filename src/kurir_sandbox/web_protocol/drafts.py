"""Drafts: what a person wants to send to linked devices, and where its stanza differs from what a phone would send."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kurir_sandbox.traffic import Content

from . import stanza_json
from .stanza import Attribute, Node

Attributes = dict[str, Attribute | None]


@dataclass(frozen=True, slots=True)
class Form:
    """The stanza around a message, as far as the sender chose it.

    attributes: of `<message>`, over those a phone would set; None removes one. enc: the same for each `<enc>`.
    children: further children of `<message>`. sealed: whether there are `<enc>` parts at all. unreadable: how many
    times (the first sending, then one for each time the device asks again) the ciphertext is garbage. padding: what
    is appended to the plaintext in the place of WhatsApp's padding.
    """

    attributes: Attributes = field(default_factory=dict[str, Attribute | None])
    enc: Attributes = field(default_factory=dict[str, Attribute | None])
    children: list[Node] = field(default_factory=list[Node])
    sealed: bool = True
    unreadable: int = 0
    padding: bytes | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The plaintext of a message (a serialised `Message`, or any bytes) with what the stanza around it says.

    type: the stanza's. media_type: the `mediatype` of its `<enc>`, None for messages without media. media_path: where
    its blob is, empty when the sandbox did not put one there.
    """

    plaintext: bytes
    type: str = "text"
    media_type: str | None = None
    form: Form = field(default_factory=Form)
    media_path: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """What to send: `content` as a phone writes it, or else `plaintext` as it is."""

    content: Content | None = None
    plaintext: bytes = b""
    form: Form = field(default_factory=Form)


FORM_KEYS = ("attributes", "enc", "children", "unreadable", "padding")
_MOST_UNREADABLE = 1000
_LARGEST_FORM = 2 * 1024 * 1024


def read_form(given: Mapping[str, Any]) -> Form:
    """The form in the JSON object `given`; `enc` null means no `<enc>` at all. Raises stanza_json.FormError."""
    unreadable, padding = given.get("unreadable", 0), given.get("padding")
    if isinstance(unreadable, bool) or not isinstance(unreadable, int) or not 0 <= unreadable <= _MOST_UNREADABLE:
        raise stanza_json.FormError("unreadable", f"must be an integer from 0 to {_MOST_UNREADABLE}")
    attributes = stanza_json.attributes(given.get("attributes"), "attributes")
    enc = stanza_json.attributes(given.get("enc"), "enc")
    children = stanza_json.nodes(given.get("children"), "children")
    stanza_json.check_size(Node("message", attributes, [Node("enc", enc), *children]), "attributes", _LARGEST_FORM)
    return Form(
        attributes=attributes,
        enc=enc,
        children=children,
        sealed="enc" not in given or given["enc"] is not None,
        unreadable=unreadable,
        padding=None if padding is None else stanza_json.octets(padding, "padding"),
    )


def shown_form(form: Form) -> dict[str, Any]:
    """The form as JSON values, without what was not chosen."""
    padding = None if form.padding is None else base64.b64encode(form.padding).decode()
    chosen: dict[str, Any] = {
        "attributes": stanza_json.shown_attributes(form.attributes),
        "enc": stanza_json.shown_attributes(form.enc) if form.sealed else None,
        "children": [stanza_json.shown(child) for child in form.children],
        "unreadable": form.unreadable,
        "padding": padding,
    }
    return {key: value for key, value in chosen.items() if value or (key, value) in (("enc", None), ("padding", ""))}
