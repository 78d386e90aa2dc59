"""WhatsApp's own message format (the `waE2E` protobufs): our content into it, received messages out of it. Pure.

Only ready protobufs and bytes reach the engine: a plain text given to it as `str` would be scanned for mentions and
links, a path or URL would be opened or fetched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pylibmagic  # noqa: F401  (brings libmagic where the system has none; must come before neonize)
from neonize.proto.Neonize_pb2 import UploadResponse
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import (
    DocumentMessage,
    ImageMessage,
    LocationMessage,
    Message,
    MessageContextInfo,
)

from kurir.messages.content import Content, Document, Image, Location, MediaFile, Preview, TemplateUse, Text


class NotCarriedError(ValueError):
    """This kind of content cannot be sent by a linked device."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file that has been uploaded: what it is, where the engine put it, and how a picture looks."""

    file: MediaFile
    at: UploadResponse
    preview: Preview | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """Media inside a received message; `size` is what the sender claims."""

    mime: str
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What a received message says."""

    kind: str
    text: str = ""
    attachment: Attachment | None = None
    location: tuple[float, float] | None = None
    forwarded: bool = False


def compose(content: Content, secret: bytes, uploaded: Uploaded | None = None) -> Message:
    """`content` as WhatsApp writes it, with `secret` (32 bytes) as its message secret.

    `uploaded` is needed for Image and Document. Raises NotCarriedError for templates.
    """
    context = MessageContextInfo(messageSecret=secret)
    match content:
        case Text(body):
            return Message(conversation=body, messageContextInfo=context)
        case Location(latitude, longitude, name, address):
            place = LocationMessage(degreesLatitude=latitude, degreesLongitude=longitude)
            if name:
                place.name = name
            if address:
                place.address = address
            return Message(locationMessage=place, messageContextInfo=context)
        case Image(caption=caption):
            assert uploaded is not None
            return Message(imageMessage=_image(uploaded, caption), messageContextInfo=context)
        case Document(file_name=file_name, caption=caption):
            assert uploaded is not None
            return Message(documentMessage=_document(uploaded, file_name, caption), messageContextInfo=context)
        case TemplateUse():
            raise NotCarriedError("a linked device cannot send templates")


def _image(uploaded: Uploaded, caption: str) -> ImageMessage:
    image = ImageMessage(mimetype=uploaded.file.mime, **_where(uploaded.at))
    if caption:
        image.caption = caption
    if uploaded.preview is not None:
        image.width, image.height = uploaded.preview.width, uploaded.preview.height
        if uploaded.preview.jpeg:
            image.JPEGThumbnail = uploaded.preview.jpeg
    return image


def _document(uploaded: Uploaded, file_name: str, caption: str) -> DocumentMessage:
    name = file_name or uploaded.file.name
    document = DocumentMessage(mimetype=uploaded.file.mime, fileName=name, title=name, **_where(uploaded.at))
    if caption:
        document.caption = caption
    return document


def _where(at: UploadResponse) -> dict[str, Any]:
    return {
        "URL": at.url,
        "directPath": at.DirectPath,
        "mediaKey": at.MediaKey,
        "fileEncSHA256": at.FileEncSHA256,
        "fileSHA256": at.FileSHA256,
        "fileLength": at.FileLength,
    }


_MEDIA = {
    "imageMessage": "image",
    "documentMessage": "document",
    "videoMessage": "video",
    "ptvMessage": "video",
    "audioMessage": "audio",
    "stickerMessage": "sticker",
}
_PLACES = ("locationMessage", "liveLocationMessage")
_TEXTS = {
    "extendedTextMessage": "text",
    "buttonsResponseMessage": "selectedDisplayText",
    "templateButtonReplyMessage": "selectedDisplayText",
    "listResponseMessage": "title",
}
_OTHERS = {
    "contactMessage": "contact",
    "contactsArrayMessage": "contact",
    "pollCreationMessage": "poll",
    "pollCreationMessageV2": "poll",
    "pollCreationMessageV3": "poll",
}


def interpret(message: Message) -> Reading | None:
    """What a received message says; None for what is no bubble on a phone (keys, receipts, edits, reactions …)."""
    if message.conversation:
        return Reading("text", message.conversation)
    held = {field.name: part for field, part in message.ListFields()}
    for field, text in _TEXTS.items():
        if part := held.get(field):
            return Reading("text", getattr(part, text), forwarded=_forwarded(part))
    for field, kind in _MEDIA.items():
        if part := held.get(field):
            mime = part.mimetype.partition(";")[0].strip()  # bare, as on official numbers
            attachment = Attachment(mime, getattr(part, "fileName", ""), part.fileLength)
            return Reading(kind, getattr(part, "caption", ""), attachment, forwarded=_forwarded(part))
    for field in _PLACES:
        if part := held.get(field):
            text = getattr(part, "name", "") or getattr(part, "caption", "")
            degrees = (part.degreesLatitude, part.degreesLongitude)
            # a sender may write any double, and JSON knows neither NaN nor infinity
            place = degrees if all(map(math.isfinite, degrees)) else None
            return Reading("location", text, location=place, forwarded=_forwarded(part))
    for field, kind in _OTHERS.items():
        if part := held.get(field):
            return Reading(kind, getattr(part, "displayName", "") or getattr(part, "name", ""))
    return None


def _forwarded(part: Any) -> bool:
    return bool(part.contextInfo.isForwarded)
