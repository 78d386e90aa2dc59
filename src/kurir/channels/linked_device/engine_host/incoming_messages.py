"""Converts received messages and receipts from the engine's form to the inbox's. Input of strangers is bounded here,
where it is first read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Protocol

from neonize import events as ev
from neonize.proto.Neonize_pb2 import JID
from neonize.proto.Neonize_pb2 import Message as MessageEvent
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

from kurir.channels.linked_device.engine_host.journal import Entry
from kurir.channels.linked_device.engine_host.protobufs import Attachment, interpret, message_of, unread_kind
from kurir.channels.linked_device.protocol import Open
from kurir.messages import bounds
from kurir.messages.addresses import GROUP_SERVER
from kurir.messages.channel_reports import IncomingMedia, MediaFetched, Quarantined, Received, StatusChanged
from kurir.messages.lifecycle import ReceiptStatus

PEOPLE, LIDS, GROUPS = "s.whatsapp.net", "lid", "g.us"
_USER = 64
"""Maximum characters of the user part of an address; phone numbers have 15 at most, groups about 30."""
_ELSEWHERE = {"broadcast": "status_broadcast", "newsletter": "newsletter"}
_STATUS: dict[int, ReceiptStatus] = {
    ev.ReceiptEv.DELIVERED: "delivered",
    ev.ReceiptEv.INACTIVE: "delivered",
    ev.ReceiptEv.READ: "read",
    ev.ReceiptEv.PLAYED: "read",
}


RECEIPT_IDS = 256
"""Maximum messages read from one receipt, as many as a phone names in one; the rest of a longer one is counted."""
RECEIPT_MARK = b"receipt\0"
"""Prefix of the payload of a quarantined receipt; a message's payload begins with a protobuf tag, which this is not."""


class DeviceContext(Protocol):
    """What the conversion needs of its device."""

    def phone(self, *jids: JID) -> str:
        """The phone number behind a person's addresses."""
        ...

    def download(self, message: Message) -> bytes:
        """The media of a message. Raises NeonizeError."""
        ...

    def report(self, what: str, kind: str = "") -> None:
        """Reports a problem; `kind` as in `protocol.Trouble`."""
        ...


def read_message(event: MessageEvent, order: Open, device: DeviceContext, entry: int, now: float) -> Received | str:
    """The received message with its media still pending, or the name of its kind when that is not supported.

    `entry` is its journal entry and `now` when it came in (unix seconds), used when the sender's time is impossible.
    Not supported are keys, edits, status broadcasts, newsletters, and whatever `interpret` does not know.
    """
    info = event.Info
    source = info.MessageSource
    server = source.Chat.Server
    if server not in (PEOPLE, LIDS, GROUPS):
        # protobuf gives bytes for a text that is not UTF-8, against its own types
        is_text = isinstance(server, str)  # pyright: ignore[reportUnnecessaryIsInstance]
        return _ELSEWHERE.get(server, "other") if is_text else "other"
    if info.Category == "peer":
        return "peer"
    if event.IsEdit:
        return "editedMessage"
    message = message_of(event)
    reading = interpret(message)
    if reading is None:
        return unread_kind(message)
    remote_id = bounds.identifier(info.ID)
    if server == GROUPS:
        chat = user_of(source.Chat) + GROUP_SERVER
    elif source.IsFromMe:
        chat = device.phone(source.RecipientAlt, source.Chat)
    else:
        chat = device.phone(source.SenderAlt, source.Chat)
    media = pending(reading.attachment, remote_id) if reading.attachment is not None else None
    return Received(
        account_id=order.account_id,
        number_id=order.device,
        remote_id=remote_id,
        chat=chat,
        sender=device.phone(source.Sender, source.SenderAlt),
        sender_name=bounds.text(info.Pushname, bounds.NAME),
        at=bounds.moment(unix(info.Timestamp), now),
        kind=reading.kind,
        text=reading.text,
        media=media,
        location=reading.location,
        from_me=source.IsFromMe,
        forwarded=reading.forwarded,
        entry=entry,
    )


def read_receipt(
    event: ev.ReceiptEv, order: Open, device: DeviceContext, entry: int, now: float
) -> Iterator[StatusChanged]:
    """The messages that a receipt is about; the last of them names the journal entry, which ends with all of them."""
    source = event.MessageSource
    status = _STATUS.get(event.Type)
    if status is None or source.IsFromMe:
        return
    person = device.phone(source.SenderAlt, source.Sender)
    at = bounds.moment(unix(event.Timestamp), now)
    ids = [bounds.identifier(remote_id) for remote_id in event.MessageIDs[:RECEIPT_IDS]]
    if (more := len(event.MessageIDs) - len(ids)) > 0:
        device.report(f"a receipt names {more} messages more than are read of one", "long_receipt")
    for position, remote_id in enumerate(ids, start=1):
        yield StatusChanged(
            account_id=order.account_id,
            number_id=order.device,
            remote_id=remote_id,
            status=status,
            at=at,
            person=person,
            entry=entry if position == len(ids) else 0,
        )


def quarantined(entry: Entry, order: Open, reason: str, fetch: MediaFetched | None = None) -> Quarantined:
    """A journal entry for the quarantine, complete; `fetch` as in `Quarantined`."""
    payload = RECEIPT_MARK + entry.event if entry.kind == "receipt" else entry.event
    reference = hashlib.sha256(payload).hexdigest()[:32]
    reason = bounds.text(reason, bounds.REASON)
    return Quarantined(order.account_id, order.device, "journal", reference, reason, payload, entry.id, fetch)


def to_fetch(message: Received) -> MediaFetched | None:
    """What is known about a message's media before they are fetched; None when it has none."""
    if message.media is None:
        return None
    return MediaFetched(
        message.account_id,
        message.number_id,
        message.chat,
        message.remote_id,
        message.media,
        message.entry,
        message.sender,
    )


def pending(attachment: Attachment, remote_id: str) -> IncomingMedia:
    """Media that are still to be fetched."""
    return IncomingMedia(attachment.mime, attachment.name, "", attachment.size, remote_id, "pending")


def user_of(jid: JID) -> str:
    """The bounded user part of an address, usually digits."""
    return bounds.identifier(jid.User, _USER)


def unix(timestamp: int) -> float:
    """Unix seconds; the engine gives some events' time in milliseconds."""
    return timestamp / 1000 if timestamp > 100_000_000_000 else float(timestamp)
