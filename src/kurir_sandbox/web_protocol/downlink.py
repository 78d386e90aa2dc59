"""From people to linked devices: what is written on a phone is encrypted by its handset for each linked device of
the chat.

1:1 messages go to the recipient's linked devices, and a copy to the sender's own; group messages to those of all
members, encrypted once with the sender key. Offline devices find them in their queue.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import structlog

from kurir_sandbox.traffic import Content

from . import contents
from .exchange import Exchange, lid_of
from .linked_devices import Device, now
from .protobufs import e2e
from .recent_messages import Remembered
from .signal_sessions import Bundle
from .stanza import GROUP_SERVER, JID, SERVER, Attribute, Node

if TYPE_CHECKING:
    from kurir_sandbox.world import Group, Person

log = structlog.get_logger(__name__)

LOW_ON_KEYS = 4


class WriteError(ValueError):
    """Why a person cannot write this: no such person or chat, not a member, or nobody has a linked device there."""


async def write(exchange: Exchange, sender: str, to: str, content: Content) -> str:
    """The person `sender` writes to the number `to` or in the group `to`; returns the message id. Raises WriteError."""
    person = _person(exchange, sender, "sender")
    outgoing = contents.write(content, exchange.media)
    wire_id = secrets.token_hex(16).upper()
    group = exchange.world.group(to)
    if group is None:
        await _write_personal(exchange, person, _person(exchange, to, "to"), outgoing, wire_id)
    elif all(m.phone != sender for m in group.members):
        raise WriteError(f"sender: {sender} is not a member of group {to}")
    else:
        await _write_group(exchange, person, group, outgoing, wire_id)
    message = outgoing.message.SerializeToString()
    exchange.recent.put(wire_id, Remembered(sender, to, outgoing.type, outgoing.media_type, message, now()))
    return wire_id


async def write_again(exchange: Exchange, device: Device, wire_id: str, count: int) -> None:
    """A device could not read the message `wire_id`: sends it again in a fresh session."""
    sent = exchange.recent.get(wire_id)
    if sent is None:
        log.warning("message_not_remembered", device=str(device.lid), wire_id=wire_id)
        return
    person = _person(exchange, sent.sender, "sender")
    outgoing = contents.Outgoing(e2e.Message.FromString(sent.message), sent.type, sent.media_type)
    group = exchange.world.group(sent.to)
    if group is None:
        recipient = _person(exchange, sent.to, "to")
        if device.phone == person.phone and recipient.phone != person.phone:
            outgoing = contents.own_copy(outgoing, lid_of(recipient))
        attrs = _personal_attrs(person, recipient, device, outgoing, wire_id)
    else:
        attrs = _group_attrs(person, group, outgoing, wire_id)
        exchange.handsets.of(person.phone).hand_again(str(attrs["from"]), device.lid)
    enc = await encrypt(exchange, person, device, outgoing.message, outgoing.media_type)
    again = Node("enc", {**enc.attrs, "count": str(count)}, enc.content)
    await exchange.devices.post(device, Node("message", {**attrs, "t": sent.sent_at}, [again]))


async def encrypt(
    exchange: Exchange, person: Person, device: Device, message: e2e.Message, media_type: str | None = None
) -> Node:
    """The `<enc>` of a message from the person's phone for one linked device."""
    kind, sealed = exchange.handsets.of(person.phone).encrypt(
        device.lid, message.SerializeToString(), lambda: exchange.devices.bundle(device)
    )
    if kind == "pkmsg":
        await warn_if_low_on_keys(exchange, device)
    return Node("enc", {"v": "2", "type": kind, "mediatype": media_type}, sealed)


async def use_bundle(exchange: Exchange, device: Device) -> Bundle:
    """The keys for one new session with `device`; it is told when it should upload more."""
    bundle = exchange.devices.bundle(device)
    await warn_if_low_on_keys(exchange, device)
    return bundle


async def warn_if_low_on_keys(exchange: Exchange, device: Device) -> None:
    """Tells a device that has nearly no one-time keys left how many there are, so that it uploads more."""
    left = exchange.devices.one_time_key_count(device)
    if left <= LOW_ON_KEYS:
        attrs: dict[str, Attribute | None] = {"from": SERVER, "type": "encrypt", "id": secrets.token_hex(8), "t": now()}
        await exchange.devices.post(device, Node("notification", attrs, [Node("count", {"value": str(left)})]))


async def _write_personal(
    exchange: Exchange, person: Person, recipient: Person, outgoing: contents.Outgoing, wire_id: str
) -> None:
    copy = contents.own_copy(outgoing, lid_of(recipient))
    devices = [(d, outgoing) for d in exchange.devices.of(recipient.phone)]
    if person.phone != recipient.phone:
        devices += [(d, copy) for d in exchange.devices.of(person.phone)]
    if not devices:
        raise WriteError(f"to: {recipient.phone} has no linked device")
    for device, said in devices:
        enc = await encrypt(exchange, person, device, said.message, said.media_type)
        attrs = _personal_attrs(person, recipient, device, said, wire_id)
        await exchange.devices.post(device, Node("message", attrs, [enc]))


async def _write_group(
    exchange: Exchange, person: Person, group: Group, outgoing: contents.Outgoing, wire_id: str
) -> None:
    devices = {d.lid: d for m in group.members for d in exchange.devices.of(m.phone)}
    if not devices:
        raise WriteError(f"to: nobody in group {group.id} has a linked device")
    jid = JID(group.id, GROUP_SERVER)
    sealed, missing = exchange.handsets.of(person.phone).encrypt_group(
        str(jid), outgoing.message.SerializeToString(), list(devices)
    )
    attrs = _group_attrs(person, group, outgoing, wire_id)
    shared = Node("enc", {"v": "2", "type": "skmsg", "mediatype": outgoing.media_type}, sealed)
    for lid, device in devices.items():
        parts = [shared]
        if lid in missing:
            handing = e2e.Message()
            handing.senderKeyDistributionMessage.groupID = str(jid)
            handing.senderKeyDistributionMessage.axolotlSenderKeyDistributionMessage = missing[lid]
            parts = [await encrypt(exchange, person, device, handing), shared]
        await exchange.devices.post(device, Node("message", attrs, parts))


def _personal_attrs(
    person: Person, recipient: Person, device: Device, outgoing: contents.Outgoing, wire_id: str
) -> dict[str, Attribute | None]:
    own = device.phone == person.phone
    return {
        "from": lid_of(person),
        "sender_pn": JID(person.phone),
        "recipient": lid_of(recipient) if own else None,
        "peer_recipient_pn": JID(recipient.phone) if own else None,
        "id": wire_id,
        "t": now(),
        "type": outgoing.type,
        "notify": person.name,
        "addressing_mode": "lid",
    }


def _group_attrs(
    person: Person, group: Group, outgoing: contents.Outgoing, wire_id: str
) -> dict[str, Attribute | None]:
    return {
        "from": JID(group.id, GROUP_SERVER),
        "participant": lid_of(person),
        "participant_pn": JID(person.phone),
        "id": wire_id,
        "t": now(),
        "type": outgoing.type,
        "notify": person.name,
        "addressing_mode": "lid",
    }


def _person(exchange: Exchange, phone: str, field: str) -> Person:
    person = exchange.world.person(phone)
    if person is None or not person.on_whatsapp:
        raise WriteError(f"{field}: {phone} is not on WhatsApp")
    return person
