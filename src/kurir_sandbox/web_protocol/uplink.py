"""From linked devices to people: the phones decrypt what a device sends, and its copies are passed to other linked
devices.

A message names the devices it is encrypted for; group messages have one part for all (the sender key's) besides.
What a phone could read goes to the ledger through `Phones.deliver`; what it couldn't, it asks for again with a
retry receipt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from kurir_sandbox.faults import Occasion
from kurir_sandbox.traffic import Arrival

from . import contents, receipts_of_phones
from .exchange import Exchange, lid_of
from .handsets import Handset
from .linked_devices import Device, now
from .media import MediaError
from .receipts_of_phones import Receipt
from .signal_messages import SignalError
from .signal_sessions import DuplicateMessageError
from .stanza import GROUP_SERVER, JID, Attribute, Node

if TYPE_CHECKING:
    from kurir_sandbox.world import Group, Person

log = structlog.get_logger(__name__)

# Seen as `error` of a group message's ack when the sender is no member (tgalal/yowsup issue 1402); the engine reports
# "server returned error 401" and does not send again.
NOT_A_MEMBER = "401"
NO_SUCH_GROUP = "404"
_MAX_RETRIES = 5


@dataclass(frozen=True, slots=True)
class _OutgoingStanza:
    """A message on its way: which device sent it where."""

    device: Device
    node: Node
    to: JID
    wire_id: str


async def receive(exchange: Exchange, device: Device, node: Node) -> Node:
    """Handles `<message>` of `device`; returns the `<ack>` for it. Raises StanzaError for a malformed stanza."""
    to, wire_id = node.need_jid("to"), node.need_text("id")
    group = exchange.world.group(to.user) if to.server == GROUP_SERVER else None
    if to.server == GROUP_SERVER:
        if group is None:
            return acknowledgement(node, NO_SUCH_GROUP)
        if all(m.phone != device.phone for m in group.members):
            return acknowledgement(node, NOT_A_MEMBER)
    sent = _OutgoingStanza(device, node, to, wire_id)
    recipient = exchange.person_at(to) if group is None else None
    if recipient is not None:
        exchange.first_contacts.note(device.phone, recipient.phone)
    parts_of = _parts_of(exchange, sent, group)
    for address, parts in parts_of.items():
        if address.device == 0:
            person = exchange.person_at(address)
            if person:
                await _read_on_phone(exchange, sent, person, parts)
        else:
            await _pass_on(exchange, sent, address, parts)
    log.info("message_sent", device=str(device.lid), wire_id=wire_id, to=str(to), recipients=len(parts_of))
    return acknowledgement(node)


def _parts_of(exchange: Exchange, sent: _OutgoingStanza, group: Group | None) -> dict[JID, list[Node]]:
    """Which device (LID form) gets which `<enc>` parts, in order."""
    parts_of: dict[JID, list[Node]] = {}
    participants = sent.node.child("participants")
    for part in participants.children if participants else []:
        address = _lid_form(exchange, part.need_jid("jid"))
        if address:
            parts_of[address] = part.all("enc")
    direct = sent.node.all("enc")
    if not direct:
        return parts_of
    if group is None or sent.node.jid("participant"):
        # below <message> itself: for one device only (a retry, or a peer message to the own phone)
        address = _lid_form(exchange, sent.node.jid("participant") or sent.to)
        if address:
            parts_of[address] = direct
        return parts_of
    for member in group.members:
        person = exchange.world.person(member.phone)
        if person is None:
            continue
        ids = [0, *(d.device_id for d in exchange.devices.of(person.phone))]
        for address in (JID(person.lid, "lid", device_id) for device_id in ids):
            if address != sent.device.lid:
                parts_of.setdefault(address, []).extend(direct)
    return parts_of


async def _read_on_phone(exchange: Exchange, sent: _OutgoingStanza, person: Person, parts: list[Node]) -> None:
    """The phone decrypts its parts and shows what they hold; for one that it cannot read it asks again."""
    if unread := exchange.faults.strike(Occasion("linked_device", sent.device.phone, person.phone), "ask_again"):
        await _ask_again(exchange, sent, person, parts[0], unread.seconds or 0)
        return
    for enc in parts:
        try:
            plaintext = _decrypt(exchange.handsets.of(person.phone), sent, enc)
        except DuplicateMessageError as error:
            log.info("message_duplicate", phone=person.phone, wire_id=sent.wire_id, reason=str(error))
        except SignalError as error:
            log.warning("message_unreadable", phone=person.phone, wire_id=sent.wire_id, reason=str(error))
            await _ask_again(exchange, sent, person, enc)
            return
        else:
            await _show(exchange, sent, person, plaintext)


def _decrypt(handset: Handset, sent: _OutgoingStanza, enc: Node) -> bytes:
    sender, kind, data = sent.device.lid, enc.need_text("type"), enc.need_data()
    if kind == "skmsg":
        return handset.decrypt_group(str(sent.to), sender, data)
    plaintext = handset.decrypt(sender, kind, data)
    handing = contents.handed_key(plaintext)
    if handing is not None:
        handset.learn_sender_key(handing[0], sender, handing[1])
    return plaintext


async def _show(exchange: Exchange, sent: _OutgoingStanza, person: Person, plaintext: bytes) -> None:
    """Writes what the phone shows into the ledger."""
    sender = sent.device.phone
    mirrored = contents.device_sent(plaintext)
    if mirrored is not None:
        # the sender's own phone only mirrors the chat; in the chat with oneself the mirror is the message
        if person.phone != sender or exchange.person_at(sent.to) != person:
            return
        plaintext = mirrored
    elif person.phone == sender:
        return
    try:
        content = contents.read(plaintext, exchange.media)
    except MediaError as error:
        log.warning("media_unreadable", phone=person.phone, wire_id=sent.wire_id, reason=str(error))
        return
    if content is None:
        return
    occasion = Occasion("linked_device", sender, person.phone, content.kind)
    if not exchange.faults.strike(occasion, "lose"):
        chat = sent.to.user if sent.to.server == GROUP_SERVER else sender
        await exchange.phones.deliver(Arrival(person.phone, "linked_device", sender, chat, sent.wire_id, content))


async def _pass_on(exchange: Exchange, sent: _OutgoingStanza, address: JID, parts: list[Node]) -> None:
    """Hands the parts for another linked device to it, as they are."""
    device, to = sent.device, sent.to
    target = exchange.devices.find(address)
    if target is None:
        log.info("recipient_unlinked", device=str(device.lid), recipient=str(address))
        return
    sender = exchange.world.person(device.phone)
    attrs: dict[str, Attribute | None] = {
        "id": sent.node.need_id(),
        "t": now(),
        "type": sent.node.text("type", "text"),
        "notify": sender.name if sender else None,
        "addressing_mode": "lid",
    }
    if to.server == GROUP_SERVER:
        attrs |= {"from": to, "participant": device.lid, "participant_pn": device.jid.account}
    else:
        attrs |= {"from": device.lid, "sender_pn": device.jid.account}
        recipient = exchange.person_at(to)
        if target.phone == device.phone and recipient:
            attrs |= {"recipient": lid_of(recipient), "peer_recipient_pn": JID(recipient.phone)}
    identity = sent.node.child("device-identity")
    await exchange.devices.post(target, Node("message", attrs, [*parts, *([identity] if identity else [])]))


async def _ask_again(exchange: Exchange, sent: _OutgoingStanza, person: Person, enc: Node, seconds: float = 0) -> None:
    """The phone's retry receipt, `seconds` from now: it forgets the session and sends keys for a new one."""
    tries = enc.text("count", "0")
    count = int(tries) + 1 if tries.isdecimal() else 1
    if count > _MAX_RETRIES or person.phone == sent.device.phone:
        return
    group = sent.to.user if sent.to.server == GROUP_SERVER else ""
    receipt = Receipt("retry", [sent.wire_id], group, count=count)

    async def ask() -> None:
        await receipts_of_phones.send(exchange, person, sent.device, receipt)

    occasion = Occasion("linked_device", sent.device.phone, person.phone, "retry")
    if exchange.faults.strike(occasion, "withhold_receipt"):
        return
    if late := exchange.faults.strike(occasion, "late_receipt"):
        seconds += late.seconds or 0
    for _ in range(2 if exchange.faults.strike(occasion, "duplicate_receipt") else 1):
        if seconds:
            exchange.delays.after(seconds, ask)
        else:
            await ask()


def _lid_form(exchange: Exchange, address: JID) -> JID | None:
    person = exchange.person_at(address)
    return JID(person.lid, "lid", address.device) if person else None


def acknowledgement(node: Node, error: str | None = None, **further: str) -> Node:
    """The `<ack>` of a message, with an error code (and further attributes) when it is refused."""
    attrs: dict[str, Attribute | None] = {
        "class": "message",
        "id": node.need_id(),
        "from": node.need_jid("to"),
        "t": now(),
        "error": error,
        **further,
    }
    return Node("ack", attrs)
