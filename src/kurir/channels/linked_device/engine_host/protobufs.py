"""Converts between WhatsApp's message format (the `waE2E` protobufs) and Kurir's content. Pure.

Only complete protobufs and bytes reach the engine: it would scan a plain `str` for mentions and links, and open a path
or fetch a URL.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import pylibmagic  # noqa: F401  (brings libmagic where the system has none; must come before neonize)
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.unknown_fields import UnknownFieldSet
from neonize.proto.Neonize_pb2 import Message as MessageEvent
from neonize.proto.Neonize_pb2 import UploadResponse
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import (
    DocumentMessage,
    ImageMessage,
    LocationMessage,
    Message,
    MessageContextInfo,
)

from kurir.messages import bounds
from kurir.messages.content import Content, Document, Image, Location, MediaFile, Preview, TemplateUse, Text


class NotSupportedError(ValueError):
    """This kind of content cannot be sent by a linked device."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """An uploaded file: its type, where the engine put it, and a picture's preview."""

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
    """The content of a received message."""

    kind: str
    text: str = ""
    attachment: Attachment | None = None
    location: tuple[float, float] | None = None
    forwarded: bool = False


def compose(content: Content, secret: bytes, uploaded: Uploaded | None = None) -> Message:
    """`content` as a WhatsApp protobuf, with `secret` (32 bytes) as its message secret.

    `uploaded` is needed for Image and Document. Raises NotSupportedError for templates.
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
            raise NotSupportedError("a linked device cannot send templates")


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
    "pollCreationMessageV5": "poll",
    "pollCreationMessageV6": "poll",
}


_DEEPEST = 16
"""Maximum depth of wrappers that are opened; phones use three at most."""
_BIGGEST = 2**53
"""Maximum size in bytes that a sender may claim for a file: the largest whole number of every JSON reader."""
_MIME = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)


def message_of(event: MessageEvent) -> Message:
    """The message of the engine's event. The library's stubs do not know its type: they import it by a wrong path."""
    return event.Message  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def unwrapped(message: Message) -> Message:
    """The message inside its wrappers: ephemeral, view once, album item, document with caption, a person's own other
    device, and whatever else WhatsApp wraps a message in."""
    for _ in range(_DEEPEST):
        inner = next((part.message for field, part in message.ListFields() if _wraps(field, part)), None)
        if inner is None:
            break
        message = inner
    return message


def interpret(message: Message) -> Reading | None:
    """The content of a received message without its wrappers; None for an unsupported kind (see `unread_kind`).

    Everything chosen by the sender is valid text of limited length afterwards.
    """
    message = unwrapped(message)
    if message.conversation:
        return Reading("text", bounds.text(message.conversation))
    held = {field.name: part for field, part in message.ListFields()}
    for field, text in _TEXTS.items():
        if part := held.get(field):
            return Reading("text", bounds.text(getattr(part, text)), forwarded=_forwarded(part))
    for field, kind in _MEDIA.items():
        if part := held.get(field):
            caption = bounds.text(getattr(part, "caption", ""))
            return Reading(kind, caption, _attachment(part), forwarded=_forwarded(part))
    for field in _PLACES:
        if part := held.get(field):
            text = getattr(part, "name", "") or getattr(part, "caption", "")
            place = _place(part.degreesLatitude, part.degreesLongitude)
            return Reading("location", bounds.text(text), location=place, forwarded=_forwarded(part))
    for field, kind in _OTHERS.items():
        if part := held.get(field):
            text = getattr(part, "displayName", "") or getattr(part, "name", "")
            return Reading(kind, bounds.text(text), forwarded=_forwarded(part))
    return None


def unread_kind(message: Message) -> str:
    """The name of an unsupported message: that of its protobuf field, "other" for one that the engine does not know,
    "empty" for none."""
    names = [field.name for field, _ in unwrapped(message).ListFields()]
    # fields that accompany the message's own part
    own = [name for name in names if name not in ("messageContextInfo", "senderKeyDistributionMessage")]
    if own or names:
        return (own or names)[0]
    return "other" if len(UnknownFieldSet(message)) else "empty"


def _wraps(field: FieldDescriptor, part: Any) -> bool:
    if field.message_type is None or field.message_type.name not in ("FutureProofMessage", "DeviceSentMessage"):
        return False
    return part.HasField("message")


def _attachment(part: Any) -> Attachment:
    mime = bounds.text(part.mimetype, bounds.MIME).partition(";")[0].strip()  # bare, as on official numbers
    return Attachment(
        mime if _MIME.fullmatch(mime) else "",
        bounds.text(getattr(part, "fileName", ""), bounds.FILE_NAME),
        min(part.fileLength, _BIGGEST),
    )


def _place(latitude: float, longitude: float) -> tuple[float, float] | None:
    """Valid coordinates: a sender may write any double, and JSON has neither NaN nor infinity."""
    finite = math.isfinite(latitude) and math.isfinite(longitude)
    return (latitude, longitude) if finite and abs(latitude) <= 90 and abs(longitude) <= 180 else None


def _forwarded(part: Any) -> bool:
    return bool(part.contextInfo.isForwarded)
