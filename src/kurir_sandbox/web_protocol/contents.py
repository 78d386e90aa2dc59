"""Converts contents between protobuf `Message` of WhatsApp Web and `Content` of the sandbox, in both directions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeAlias

from google.protobuf.message import DecodeError

from kurir_sandbox.traffic import Content, Media, Place

from .drafts import Draft, Outgoing
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


_Text: TypeAlias = str | bytes
"""A string field of a received protobuf: bytes when the sender filled it with something that is not UTF-8."""


def unwrap(message: e2e.Message) -> e2e.Message:
    """The message inside wrappers such as view-once or document-with-caption."""
    for _ in range(len(_WRAPPERS)):
        present = {field.name for field, _ in message.ListFields()}
        wrapper = next((name for name in _WRAPPERS if name in present), None)
        if wrapper is None:
            break
        message = getattr(message, wrapper).message
    return message


def read(plaintext: bytes, media: MediaStore) -> Content | None:
    """What a phone shows for `plaintext`; None when there is nothing to show (keys only). Raises MediaError.

    A phone can open what it cannot understand: bytes that are no `Message` are shown as unsupported.
    """
    try:
        message = unwrap(e2e.Message.FromString(plaintext))
    except DecodeError:
        return Content("unsupported", bubble="no protobuf")
    return _read(message, media)


def _read(message: e2e.Message, media: MediaStore) -> Content | None:
    if message.HasField("conversation"):
        return _text(message.conversation)
    if message.HasField("extendedTextMessage"):
        return _text(message.extendedTextMessage.text)
    if message.HasField("imageMessage"):
        image = message.imageMessage
        data, caption = media.open("image", _reference(image)), _words(image.caption)
        return Content("image", caption=caption, media=Media(_words(image.mimetype), "", data), bubble=caption or "🖼")
    if message.HasField("documentMessage"):
        document = message.documentMessage
        data, caption = media.open("document", _reference(document)), _words(document.caption)
        name = _words(document.fileName or document.title)
        bubble = f"📄 {name}" + (f"\n{caption}" if caption else "")
        return Content("document", caption=caption, media=Media(_words(document.mimetype), name, data), bubble=bubble)
    if message.HasField("locationMessage"):
        pin = message.locationMessage
        place = Place(
            _finite(pin.degreesLatitude), _finite(pin.degreesLongitude), _words(pin.name), _words(pin.address)
        )
        return Content("location", place=place, bubble=f"📍 {place.name or f'{place.latitude}, {place.longitude}'}")
    return _read_rarer(message)


def _read_rarer(message: e2e.Message) -> Content | None:
    if message.HasField("contactMessage"):
        contact = message.contactMessage
        return Content("contact", text=_words(contact.vcard), bubble=f"👤 {_words(contact.displayName)}")
    fields = [field.name for field, _ in message.ListFields() if field.name not in _NOT_CONTENT]
    if fields and fields[0] in _POLLS:
        poll = getattr(message, fields[0])
        lines = [_words(poll.name), *(f"○ {_words(option.optionName)}" for option in poll.options)]
        return Content("poll", text=lines[0], bubble="\n".join(lines))
    if message.HasField("reactionMessage"):
        reaction = message.reactionMessage
        emoji = _words(reaction.text)
        # the library's stubs import the type of `key` by a wrong path
        to = _words(reaction.key.ID)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        return Content("reaction", text=emoji, bubble=f"{emoji} → {to}")
    return Content("unsupported", bubble=fields[0]) if fields else None


def outgoing(draft: Draft, media: MediaStore) -> Outgoing:
    """The message for `draft`, as a phone sends it. Raises UnsupportedContentError or MediaError."""
    if draft.content is None:
        return Outgoing(draft.plaintext, form=draft.form)
    return replace(write(draft.content, media), form=draft.form)


def write(content: Content, media: MediaStore) -> Outgoing:
    """The message a phone sends for `content`. Raises UnsupportedContentError or MediaError."""
    message, media_type, reference = e2e.Message(), None, None
    if content.kind == "text":
        message.conversation = content.text
    elif content.kind == "image" and content.media:
        reference = media.seal("image", content.media.data)
        _fill(message.imageMessage, reference)
        message.imageMessage.mimetype = content.media.mime
        message.imageMessage.caption = content.caption
        media_type = "image"
    elif content.kind == "document" and content.media:
        document, media_type = message.documentMessage, "document"
        reference = media.seal("document", content.media.data)
        _fill(document, reference)
        document.mimetype, document.fileName = content.media.mime, content.media.name
        document.title, document.caption = content.media.name, content.caption
    elif content.kind == "location" and content.place:
        pin, place, media_type = message.locationMessage, content.place, "location"
        pin.degreesLatitude, pin.degreesLongitude = place.latitude, place.longitude
        pin.name, pin.address = place.name, place.address
    else:
        raise UnsupportedContentError(f"kind: a phone cannot write {content.kind!r} here")
    path = reference.direct_path if reference else ""
    return Outgoing(message.SerializeToString(), "media" if media_type else "text", media_type, media_path=path)


def own_copy(outgoing: Outgoing, chat: JID) -> Outgoing:
    """The same message as the sender's other devices get it, whatever its plaintext is."""
    fields = e2e.DeviceSentMessage.DESCRIPTOR.fields_by_name
    sent = e2e.DeviceSentMessage(destinationJID=str(chat)).SerializeToString()
    sent += _embedded(fields["message"].number, outgoing.plaintext)
    number = e2e.Message.DESCRIPTOR.fields_by_name["deviceSentMessage"].number
    return replace(outgoing, plaintext=_embedded(number, sent))


def device_sent(plaintext: bytes) -> bytes | None:
    """The plaintext that a sender's other device mirrors (see `own_copy`); None when it is no such copy."""
    try:
        message = e2e.Message.FromString(plaintext)
    except DecodeError:
        return None
    return message.deviceSentMessage.message.SerializeToString() if message.HasField("deviceSentMessage") else None


def handed_key(plaintext: bytes) -> tuple[str, bytes] | None:
    """The group and the sender key distribution that `plaintext` hands over, if it does."""
    try:
        message = e2e.Message.FromString(plaintext)
    except DecodeError:
        return None
    if not message.HasField("senderKeyDistributionMessage"):
        return None
    handing = message.senderKeyDistributionMessage
    return _words(handing.groupID), handing.axolotlSenderKeyDistributionMessage


def _embedded(number: int, data: bytes) -> bytes:
    """Field `number` of a protobuf with `data` in it, length-delimited."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _words(text: _Text) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text


def _finite(degrees: float) -> float:
    """Degrees that JSON can represent; 0 for what is not a number."""
    return degrees if math.isfinite(degrees) else 0.0


def _text(text: _Text) -> Content:
    words = _words(text)
    return Content("text", text=words, bubble=words)


def _reference(part: e2e.ImageMessage | e2e.DocumentMessage) -> Reference:
    return Reference(_words(part.directPath), part.mediaKey, part.fileSHA256, part.fileEncSHA256, part.fileLength)


def _fill(part: e2e.ImageMessage | e2e.DocumentMessage, reference: Reference) -> None:
    part.URL, part.directPath = reference.url, reference.direct_path
    part.mediaKey, part.fileLength = reference.media_key, reference.size
    part.fileSHA256, part.fileEncSHA256 = reference.file_sha256, reference.encrypted_sha256
