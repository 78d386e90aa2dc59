"""The content of a message as a tagged union, and WhatsApp's limits on it.

Adding a kind means adding a struct here and to `Content`; the type checker's `assert_never` then points at every place
that must handle it.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

TEXT_LIMIT = 4096
"""Characters in a text body (Cloud API, messages/text)."""
CAPTION_LIMIT = 1024
"""Characters in an image or document caption (Cloud API, messages/image)."""


class Text(msgspec.Struct, frozen=True, tag="text"):
    """A text bubble; `body` has 1 to `TEXT_LIMIT` characters."""

    body: str


class Image(msgspec.Struct, frozen=True, tag="image"):
    """A picture at `url`, fetched once by the gateway; JPEG or PNG, at most 5 MB."""

    url: str
    caption: str = ""


class Document(msgspec.Struct, frozen=True, tag="document"):
    """A file at `url`, fetched once by the gateway; `file_name` is what the recipient sees."""

    url: str
    file_name: str = ""
    caption: str = ""


class Location(msgspec.Struct, frozen=True, tag="location"):
    """A pin; degrees in WGS 84 (latitude −90…90, longitude −180…180)."""

    latitude: float
    longitude: float
    name: str = ""
    address: str = ""


class TemplateUse(msgspec.Struct, frozen=True, tag="template"):
    """An approved template with its send-time components in the Cloud API's own shape.

    `components` is the list of `{type, parameters}` objects of `POST /{phone_number_id}/messages`.
    """

    name: str
    language: str
    components: list[dict[str, Any]] = []


Content = Text | Image | Document | Location | TemplateUse
Kind = Literal["text", "image", "document", "location", "template"]


class MediaFile(msgspec.Struct, frozen=True):
    """The checked file on this server's disk for an Image's or Document's `url`.

    `path` is absolute; `size` in bytes; `sha256` in hex; `mime` is the type by content, not by header.
    """

    path: str
    mime: str
    name: str
    size: int
    sha256: str


class Preview(msgspec.Struct, frozen=True):
    """A picture's width and height in pixels as a person sees it, and a small JPEG of it (empty: none)."""

    width: int
    height: int
    jpeg: bytes = b""


class Outgoing(msgspec.Struct, frozen=True):
    """One message as passed to a channel: everything needed to send it once.

    `message_id` is the gateway's and unique; `recipient` is a phone number in digits or a group id ending in `@g.us`.
    `media` is present exactly for Image and Document. `typing` requests a simulated typing time before the send.
    `attempt` (1 = the first) distinguishes the attempts of one message.
    """

    message_id: int
    recipient: str
    content: Content
    typing: bool = False
    media: MediaFile | None = None
    attempt: int = 1


def kind_of(content: Content) -> Kind:
    """The wire word for a content's kind."""
    return content.__struct_config__.tag  # pyright: ignore[reportReturnType] - each tag is one of the kinds
