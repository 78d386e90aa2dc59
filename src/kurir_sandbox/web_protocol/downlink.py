"""From people to linked devices: what is written on a phone is encrypted by its handset for each linked device of
the chat.

1:1 messages go to the recipient's linked devices, and a copy to the sender's own; group messages to those of all
members, encrypted once with the sender key. Offline devices find them in their queue.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from . import contents
from .drafts import Attributes, Draft, Outgoing
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
# Of the attributes a sender chose, those that hold on the copies for the sender's own devices too: the others are about
# the recipient's view of the chat.
_MIRRORED = ("id", "t", "type", "edit")


class WriteError(ValueError):
    """Why a person cannot write this: no such person or chat, not a member, or nobody has a linked device there."""


async def write(exchange: Exchange, sender: str, to: str, draft: Draft) -> tuple[str, Outgoing]:
    """The person `sender` sends `draft` to the number `to` or in the group `to`.

    Returns the message's id and what was sent. Raises WriteError.
    """
    person = _person(exchange, sender, "sender")
    outgoing = contents.outgoing(draft, exchange.media)
    wire_id = Node("message", {"id": secrets.token_hex(16).upper(), **draft.form.attributes}).text("id")
    group = exchange.world.group(to)
    if group is None:
        await _write_personal(exchange, person, _person(exchange, to, "to"), outgoing, wire_id)
        exchange.first_contacts.note(sender, to)
    elif all(m.phone != sender for m in group.members):
        raise WriteError(f"sender: {sender} is not a member of group {to}")
    else:
        await _write_group(exchange, person, group, outgoing, wire_id)
    exchange.recent.put(Remembered.of(sender, to, wire_id, outgoing, now()))
    return wire_id, outgoing


async def write_again(exchange: Exchange, device: Device, sent: Remembered, count: int) -> None:
    """A device could not read a message, for the `count`th time: sends it again in a fresh session."""
    person, outgoing = _person(exchange, sent.sender, "sender"), sent.outgoing
    group = exchange.world.group(sent.to)
    if group is None:
        recipient = _person(exchange, sent.to, "to")
        if device.phone == person.phone and recipient.phone != person.phone:
            outgoing = contents.own_copy(outgoing, lid_of(recipient))
        attrs = _personal_attrs(person, recipient, device, outgoing, sent.wire_id)
    else:
        attrs = _group_attrs(person, group, outgoing, sent.wire_id)
        exchange.handsets.of(person.phone).hand_again(str(JID(group.id, GROUP_SERVER)), device.lid)
    enc = await encrypt(exchange, person, device, outgoing, times=count)
    again = replace(enc, attrs={**enc.attrs, "count": str(count)})
    if "t" not in outgoing.form.attributes:
        attrs["t"] = sent.sent_at
    await exchange.devices.post(device, Node("message", attrs, [again, *outgoing.form.children]))


async def encrypt(exchange: Exchange, person: Person, device: Device, outgoing: Outgoing, times: int = 0) -> Node:
    """The `<enc>` of a message from the person's phone for one linked device; `times`: how often it was sent before."""
    form = outgoing.form
    kind, sealed = exchange.handsets.of(person.phone).encrypt(
        device.lid, outgoing.plaintext, lambda: exchange.devices.bundle(device), form.padding
    )
    if kind == "pkmsg":
        await warn_if_low_on_keys(exchange, device)
    return _enc(kind, sealed, outgoing, times)


def _enc(kind: str, sealed: bytes, outgoing: Outgoing, times: int = 0) -> Node:
    form = outgoing.form
    if times < form.unreadable:
        sealed = sealed[:-8] + bytes(byte ^ 0x55 for byte in sealed[-8:])  # the MAC, or the end of the signature
    return Node("enc", {"v": "2", "type": kind, "mediatype": outgoing.media_type, **form.enc}, sealed)


async def use_bundle(exchange: Exchange, device: Device) -> Bundle:
    """The keys for one new session with `device`; it is notified when it should upload more."""
    bundle = exchange.devices.bundle(device)
    await warn_if_low_on_keys(exchange, device)
    return bundle


async def warn_if_low_on_keys(exchange: Exchange, device: Device) -> None:
    """Notifies a device that has few one-time keys left, so that it uploads more."""
    left = exchange.devices.one_time_key_count(device)
    if left <= LOW_ON_KEYS:
        attrs: dict[str, Attribute | None] = {"from": SERVER, "type": "encrypt", "id": secrets.token_hex(8), "t": now()}
        await exchange.devices.post(device, Node("notification", attrs, [Node("count", {"value": str(left)})]))


async def _write_personal(
    exchange: Exchange, person: Person, recipient: Person, outgoing: Outgoing, wire_id: str
) -> None:
    copy = contents.own_copy(outgoing, lid_of(recipient))
    devices = [(d, outgoing) for d in exchange.devices.of(recipient.phone)]
    if person.phone != recipient.phone:
        devices += [(d, copy) for d in exchange.devices.of(person.phone)]
    if not devices:
        raise WriteError(f"to: {recipient.phone} has no linked device")
    for device, content in devices:
        parts = [await encrypt(exchange, person, device, content)] if content.form.sealed else []
        attrs = _personal_attrs(person, recipient, device, content, wire_id)
        await exchange.devices.post(device, Node("message", attrs, [*parts, *content.form.children]))


async def _write_group(exchange: Exchange, person: Person, group: Group, outgoing: Outgoing, wire_id: str) -> None:
    devices = {d.lid: d for m in group.members for d in exchange.devices.of(m.phone)}
    if not devices:
        raise WriteError(f"to: nobody in group {group.id} has a linked device")
    jid, form, parts = JID(group.id, GROUP_SERVER), outgoing.form, {lid: list[Node]() for lid in devices}
    attrs = _group_attrs(person, group, outgoing, wire_id)
    if form.sealed:
        sealed, missing = exchange.handsets.of(person.phone).encrypt_group(
            str(jid), outgoing.plaintext, list(devices), form.padding
        )
        shared = _enc("skmsg", sealed, outgoing)
        for lid, device in devices.items():
            handing = e2e.Message()
            handing.senderKeyDistributionMessage.groupID = str(jid)
            handing.senderKeyDistributionMessage.axolotlSenderKeyDistributionMessage = missing.get(lid, b"")
            keys = Outgoing(handing.SerializeToString())
            parts[lid] = [await encrypt(exchange, person, device, keys), shared] if lid in missing else [shared]
    for lid, device in devices.items():
        await exchange.devices.post(device, Node("message", attrs, [*parts[lid], *form.children]))


def _personal_attrs(person: Person, recipient: Person, device: Device, outgoing: Outgoing, wire_id: str) -> Attributes:
    own = device.phone == person.phone
    chosen = outgoing.form.attributes
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
        **({key: chosen[key] for key in _MIRRORED if key in chosen} if own else chosen),
    }


def _group_attrs(person: Person, group: Group, outgoing: Outgoing, wire_id: str) -> Attributes:
    return {
        "from": JID(group.id, GROUP_SERVER),
        "participant": lid_of(person),
        "participant_pn": JID(person.phone),
        "id": wire_id,
        "t": now(),
        "type": outgoing.type,
        "notify": person.name,
        "addressing_mode": "lid",
        **outgoing.form.attributes,
    }


def _person(exchange: Exchange, phone: str, field: str) -> Person:
    person = exchange.world.person(phone)
    if person is None or not person.on_whatsapp:
        raise WriteError(f"{field}: {phone} is not on WhatsApp")
    return person
