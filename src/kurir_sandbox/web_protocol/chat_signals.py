"""Chat signals besides messages: receipts, typing and presence, in both directions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from kurir_sandbox.traffic import Entry, ReceiptKind

from . import downlink, receipts_of_phones
from .exchange import Exchange, lid_of
from .key_bundles import bundle_of
from .linked_devices import Device, now
from .recent_messages import Remembered
from .signal_messages import SignalError
from .stanza import GROUP_SERVER, JID, Attribute, Node, StanzaError

if TYPE_CHECKING:
    from kurir_sandbox.world import Person

log = structlog.get_logger(__name__)


async def send_receipt(exchange: Exchange, entry: Entry, kind: ReceiptKind) -> None:
    """Sends a phone's receipt of `entry` to the linked devices of the sender's account; "delivered" has no type."""
    arrival = entry.arrival
    person = exchange.world.person(arrival.phone)
    if person is None:
        return
    group = arrival.chat if exchange.world.group(arrival.chat) else ""
    receipt = receipts_of_phones.Receipt(kind, [arrival.wire_id], group)
    for device in exchange.devices.of(arrival.sender):
        await receipts_of_phones.send(exchange, person, device, receipt)


async def send_typing(exchange: Exchange, sender: str, to: str, on: bool) -> None:
    """The person `sender` starts or stops typing to the number or in the group `to`."""
    person = exchange.world.person(sender)
    if person is None:
        raise downlink.WriteError(f"sender: {sender} is unknown")
    group = exchange.world.group(to)
    attrs: dict[str, Attribute | None] = {"from": lid_of(person)}
    phones = [to]
    if group:
        attrs = {"from": JID(group.id, GROUP_SERVER), "participant": lid_of(person)}
        phones = [m.phone for m in group.members if m.phone != sender]
    state = Node("composing" if on else "paused")
    for phone in phones:
        for device in exchange.devices.of(phone):
            await exchange.devices.whisper(device, Node("chatstate", attrs, [state]))


async def receive_receipt(exchange: Exchange, device: Device, node: Node) -> Node:
    """A receipt of `device` for a message it got; returns the `<ack>`. Raises StanzaError."""
    to, wire_id, kind = node.need_jid("to"), node.need_text("id"), node.text("type")
    ids = [wire_id, *(item.need_text("id") for part in node.children for item in part.all("item"))]
    author = node.jid("participant") if to.server == GROUP_SERVER else to
    for each in ids:
        exchange.devices.settle_message(device, each, to, node.jid("participant"))
    if kind == "retry":
        await _retry(exchange, device, node, author or to)
    elif kind in ("", "inactive", "read", "played"):
        person = exchange.person_at(author) if author else None
        if person:
            detail: dict[str, object] = {"by": device.phone, "ids": ids}
            exchange.phones.activity(person.phone, "read" if kind in ("read", "played") else "delivered", detail)
        if author and author.device:
            await _pass_on(exchange, device, author, node, to)
    ack: dict[str, Attribute | None] = {
        "class": "receipt",
        "id": node.need_id(),
        "from": to,
        "participant": node.jid("participant"),
        "type": kind or None,
    }
    return Node("ack", ack)


async def receive_typing(exchange: Exchange, device: Device, node: Node) -> None:
    """A linked device shows that it is typing (or recording) to a person or in a group."""
    to = node.need_jid("to")
    if not node.children:
        raise StanzaError("chatstate: composing or paused expected")
    state = node.children[0]
    detail: dict[str, object] = {
        "from": device.phone,
        "chat": to.user if to.server == GROUP_SERVER else device.phone,
        "state": state.tag,
        "media": state.text("media", "text"),
    }
    group = exchange.world.group(to.user) if to.server == GROUP_SERVER else None
    person = exchange.person_at(to) if group is None else None
    seen_by = [m.phone for m in group.members if m.phone != device.phone] if group else []
    for phone in [person.phone] if person else seen_by:
        exchange.phones.activity(phone, "typing", detail)
        for other in exchange.devices.of(phone):
            attrs: dict[str, Attribute | None] = {"from": device.lid.account}
            if group:
                attrs = {"from": to, "participant": device.lid.account}
            await exchange.devices.whisper(other, Node("chatstate", attrs, [Node(state.tag, state.attrs)]))


async def receive_presence(exchange: Exchange, device: Device, node: Node) -> None:
    """A linked device comes online, goes offline, or subscribes to a person's presence."""
    kind = node.text("type", "available")
    if kind == "subscribe":
        person = exchange.person_at(node.need_jid("to"))
        if person:
            attrs: dict[str, Attribute | None] = {
                "from": lid_of(person),
                "type": "unavailable",
                "last": str(int(time.time())),
            }
            await exchange.devices.whisper(device, Node("presence", attrs))
        return
    detail: dict[str, object] = {"device": str(device.jid), "state": kind, "name": node.text("name")}
    exchange.phones.activity(device.phone, "presence", detail)


async def _retry(exchange: Exchange, device: Device, node: Node, author: JID) -> None:
    """The device could not decrypt: its fresh keys replace the session, and the message is sent again."""
    retry = node.need("retry")
    wire_id, count = retry.text("id") or node.need_text("id"), retry.text("count", "1")
    if not count.isdecimal():
        raise StanzaError("retry: count is not a number")
    if author.device:
        await _pass_on(exchange, device, author, node, node.need_jid("to"))
        return
    person = exchange.person_at(author)
    if person is None:
        return
    log.info("retry_requested", device=str(device.lid), phone=person.phone, wire_id=wire_id)
    handset = exchange.handsets.of(person.phone)
    handset.forget(device.lid)
    keys = node.child("keys")
    if keys:
        try:
            handset.greet(device.lid, bundle_of(node, keys))
        except SignalError as error:
            raise StanzaError(f"receipt/keys: {error}") from error
    sent = _asked_for(exchange, device, node, person, wire_id)
    if sent is None:
        log.warning("message_forgotten", device=str(device.lid), wire_id=wire_id)
        return
    await downlink.write_again(exchange, device, sent, int(count))


def _asked_for(exchange: Exchange, device: Device, node: Node, author: Person, wire_id: str) -> Remembered | None:
    """The message that a retry receipt is about: in a group, to the device's account, or a copy of an own one."""
    to = node.need_jid("to")
    if to.server == GROUP_SERVER:
        return exchange.recent.get(author.phone, to.user, wire_id)
    if author.phone != device.phone:
        return exchange.recent.get(author.phone, device.phone, wire_id)
    chat = exchange.person_at(node.jid("recipient") or to)
    return exchange.recent.get(author.phone, chat.phone if chat else device.phone, wire_id)


async def _pass_on(exchange: Exchange, device: Device, author: JID, node: Node, to: JID) -> None:
    """A receipt for a message that another linked device sent."""
    target = exchange.devices.find(author) if author.server == "lid" else None
    if target is None:
        return
    attrs: dict[str, Attribute | None] = {"id": node.need_id(), "t": now(), "type": node.text("type") or None}
    if to.server == GROUP_SERVER:
        attrs |= {"from": to, "participant": device.lid, "participant_pn": device.jid.account}
    else:
        attrs |= {"from": device.lid, "sender_pn": device.jid.account}
    await exchange.devices.post(target, Node("receipt", attrs, node.children or None))
