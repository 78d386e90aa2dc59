"""What is said, as protobuf `Message` on the WhatsApp Web wire and as `Content` of the sandbox, in both directions."""

from __future__ import annotations

from dataclasses import dataclass

from kurir_sandbox.traffic import Content, Media, Place

from .media import MediaStore, Reference
from .protobufs import e2e
from .stanza import JID

_WRAPPERS = (
    "ephemeralMessage",
    "viewOnceMessage",
    "viewOnceMessageV2",
    "viewOnceMessageV2Extension",
    "documentWithCaptionMessage",
    "editedMessage",
)
_POLLS = ("pollCreationMessage", "pollCreationMessageV2", "pollCreationMessageV3")
_NOT_CONTENT = ("messageContextInfo", "senderKeyDistributionMessage")


class UnsupportedContentError(ValueError):
    """A kind of content that a phone cannot write on this wire."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A protobuf message with what the stanza around it says about it."""

    message: e2e.Message
    type: str
    media_type: str | None = None


def unwrap(message: e2e.Message) -> e2e.Message:
    """The message inside wrappers such as view-once or document-with-caption."""
    for _ in range(len(_WRAPPERS)):
        present = {field.name for field, _ in message.ListFields()}
        wrapper = next((name for name in _WRAPPERS if name in present), None)
        if wrapper is None:
            break
        message = getattr(message, wrapper).message
    return message


def read(message: e2e.Message, media: MediaStore) -> Content | None:
    """What a phone shows for `message`; None when there is nothing to show (keys only). Raises MediaError."""
    message = unwrap(message)
    if message.HasField("conversation"):
        return _text(message.conversation)
    if message.HasField("extendedTextMessage"):
        return _text(message.extendedTextMessage.text)
    if message.HasField("imageMessage"):
        image = message.imageMessage
        data = media.open("image", _reference(image))
        bubble = image.caption or "🖼"
        return Content("image", caption=image.caption, media=Media(image.mimetype, "", data), bubble=bubble)
    if message.HasField("documentMessage"):
        document = message.documentMessage
        data = media.open("document", _reference(document))
        name = document.fileName or document.title
        bubble = f"📄 {name}" + (f"\n{document.caption}" if document.caption else "")
        return Content("document", caption=document.caption, media=Media(document.mimetype, name, data), bubble=bubble)
    if message.HasField("locationMessage"):
        pin = message.locationMessage
        place = Place(pin.degreesLatitude, pin.degreesLongitude, pin.name, pin.address)
        return Content("location", place=place, bubble=f"📍 {pin.name or f'{place.latitude}, {place.longitude}'}")
    return _read_rarer(message)


def _read_rarer(message: e2e.Message) -> Content | None:
    if message.HasField("contactMessage"):
        contact = message.contactMessage
        return Content("contact", text=contact.vcard, bubble=f"👤 {contact.displayName}")
    fields = [field.name for field, _ in message.ListFields() if field.name not in _NOT_CONTENT]
    if fields and fields[0] in _POLLS:
        poll = getattr(message, fields[0])
        lines = [poll.name, *(f"○ {option.optionName}" for option in poll.options)]
        return Content("poll", text=poll.name, bubble="\n".join(lines))
    if message.HasField("reactionMessage"):
        reaction = message.reactionMessage
        return Content("reaction", text=reaction.text, bubble=f"{reaction.text} → {reaction.key.ID}")
    return Content("unsupported", bubble=fields[0]) if fields else None


def write(content: Content, media: MediaStore) -> Outgoing:
    """The message a phone sends for `content`. Raises UnsupportedContentError or MediaError."""
    message = e2e.Message()
    if content.kind == "text":
        message.conversation = content.text
        return Outgoing(message, "text")
    if content.kind == "image" and content.media:
        _fill(message.imageMessage, media.seal("image", content.media.data))
        message.imageMessage.mimetype = content.media.mime
        message.imageMessage.caption = content.caption
        return Outgoing(message, "media", "image")
    if content.kind == "document" and content.media:
        document = message.documentMessage
        _fill(document, media.seal("document", content.media.data))
        document.mimetype, document.fileName = content.media.mime, content.media.name
        document.title, document.caption = content.media.name, content.caption
        return Outgoing(message, "media", "document")
    if content.kind == "location" and content.place:
        pin, place = message.locationMessage, content.place
        pin.degreesLatitude, pin.degreesLongitude = place.latitude, place.longitude
        pin.name, pin.address = place.name, place.address
        return Outgoing(message, "media", "location")
    raise UnsupportedContentError(f"kind: a phone cannot write {content.kind!r} here")


def own_copy(outgoing: Outgoing, chat: JID) -> Outgoing:
    """The same message as the sender's other devices get it."""
    copy = e2e.Message()
    copy.deviceSentMessage.destinationJID = str(chat)
    copy.deviceSentMessage.message.CopyFrom(outgoing.message)
    return Outgoing(copy, outgoing.type, outgoing.media_type)


def _text(text: str) -> Content:
    return Content("text", text=text, bubble=text)


def _reference(part: e2e.ImageMessage | e2e.DocumentMessage) -> Reference:
    return Reference(part.directPath, part.mediaKey, part.fileSHA256, part.fileEncSHA256, part.fileLength)


def _fill(part: e2e.ImageMessage | e2e.DocumentMessage, reference: Reference) -> None:
    part.URL, part.directPath = reference.url, reference.direct_path
    part.mediaKey, part.fileLength = reference.media_key, reference.size
    part.fileSHA256, part.fileEncSHA256 = reference.file_sha256, reference.encrypted_sha256
