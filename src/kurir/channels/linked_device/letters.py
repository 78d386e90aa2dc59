"""Received messages: from what the engine tells to what the inbox stores, with their media on disk."""

from __future__ import annotations

import hashlib
import mimetypes
from pathlib import Path
from typing import Protocol

from neonize.exc import NeonizeError
from neonize.proto.Neonize_pb2 import JID
from neonize.proto.Neonize_pb2 import Message as MessageEvent
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message
from neonize.utils.jid import Jid2String

from kurir.channels.linked_device.engine import Open
from kurir.channels.linked_device.protobufs import Attachment, interpret
from kurir.messages.addresses import GROUP_SERVER
from kurir.messages.reports import IncomingMedia, Received

PEOPLE, LIDS, GROUPS = "s.whatsapp.net", "lid", "g.us"


class Postman(Protocol):
    """What reading a message needs of its device."""

    def phone(self, *jids: JID) -> str:
        """The phone number behind a person's addresses."""
        ...

    def download(self, message: Message) -> bytes:
        """The media of a message. Raises NeonizeError."""
        ...

    def complain(self, what: str) -> None:
        """Tells of something that went wrong."""
        ...


def read_letter(event: MessageEvent, order: Open, postman: Postman, media_limit: int) -> Received | None:
    """What came in, or None when it is no bubble of a chat: keys, edits, status broadcasts, newsletters."""
    info = event.Info
    source = info.MessageSource
    reading = interpret(event.Message)
    of_a_chat = source.Chat.Server in (PEOPLE, LIDS, GROUPS)
    if reading is None or info.Category == "peer" or event.IsEdit or not of_a_chat:
        return None
    if source.Chat.Server == GROUPS:
        chat = source.Chat.User + GROUP_SERVER
    elif source.IsFromMe:
        chat = postman.phone(source.RecipientAlt, source.Chat)
    else:
        chat = postman.phone(source.SenderAlt, source.Chat)
    media = None
    if reading.attachment is not None:
        media = _fetch(event, reading.attachment, order, postman, media_limit)
    return Received(
        account_id=order.account_id,
        number_id=order.device,
        remote_id=info.ID,
        chat=chat,
        sender=postman.phone(source.Sender, source.SenderAlt),
        sender_name=info.Pushname,
        at=unix(info.Timestamp),
        kind=reading.kind,
        text=reading.text,
        media=media,
        location=reading.location,
        from_me=source.IsFromMe,
        forwarded=reading.forwarded,
    )


def unix(timestamp: int) -> float:
    """Unix seconds; the engine gives some events' time in milliseconds."""
    return timestamp / 1000 if timestamp > 100_000_000_000 else float(timestamp)


def _fetch(
    event: MessageEvent, attachment: Attachment, order: Open, postman: Postman, media_limit: int
) -> IncomingMedia:
    """Downloads an attachment. Its file name is made by us: nothing a sender chose becomes part of a path."""
    mime, remote_id = attachment.mime, event.Info.ID
    missing = IncomingMedia(mime, attachment.name, "", attachment.size, remote_id)
    if attachment.size > media_limit:
        return missing
    try:
        data = postman.download(event.Message)
    except NeonizeError as error:
        postman.complain(f"media of a received message: {error}")
        return missing
    if not data or len(data) > media_limit:
        return missing
    source = event.Info.MessageSource
    key = f"{order.device}\0{Jid2String(source.Chat)}\0{Jid2String(source.Sender)}\0{remote_id}"
    extension = mimetypes.guess_extension(mime.partition(";")[0].strip()) or ".bin"
    folder = Path(order.incoming)
    path = folder / (hashlib.sha256(key.encode()).hexdigest()[:40] + extension)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_bytes(data)
    except OSError as error:  # a full disk: the message itself must not get lost over it
        path.unlink(missing_ok=True)
        postman.complain(f"media of a received message could not be stored: {error}")
        return missing
    return IncomingMedia(mime, attachment.name, str(path), len(data), remote_id)
