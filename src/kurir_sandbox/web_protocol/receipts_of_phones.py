"""Receipts that a test makes a person's phone send: of any type, for any ids, at any time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .drafts import Attributes
from .exchange import Exchange, lid_of
from .key_bundles import bundle_nodes
from .linked_devices import Device, now
from .stanza import GROUP_SERVER, JID, Attribute, Node

if TYPE_CHECKING:
    from kurir_sandbox.world import Person

DELIVERED = ("", "delivered")
"""Names of the receipt without a type."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt of a phone about messages.

    type: as on the wire, or one of DELIVERED. ids: the messages', at least one; further ones go into a `<list>`.
    group: the id of the group the messages are in, empty for a personal chat. attributes, children: over and behind
    what a phone sets. count: of a retry receipt, how often the phone has asked.
    """

    type: str
    ids: list[str]
    group: str = ""
    attributes: Attributes = field(default_factory=dict[str, Attribute | None])
    children: list[Node] = field(default_factory=list[Node])
    count: int = 1


async def send(exchange: Exchange, person: Person, device: Device, receipt: Receipt) -> None:
    """The phone of `person` sends `receipt` to a linked device, now or when it comes back.

    A retry receipt brings the keys for a new session and drops the old one, so that what is sent again can be read.
    """
    listed = [Node("item", {"id": wire_id}) for wire_id in receipt.ids[1:]]
    children = [Node("list", {}, listed)] if listed else []
    if receipt.type == "retry":
        children += _retry(exchange, person, device, receipt)
    attrs: Attributes = {
        "id": receipt.ids[0],
        "t": now(),
        "type": None if receipt.type in DELIVERED else receipt.type,
        **sender(person, receipt.group),
        **receipt.attributes,
    }
    await exchange.devices.post(device, Node("receipt", attrs, [*children, *receipt.children] or None))


def sender(person: Person, group: str) -> Attributes:
    """The attributes that say whose phone sends something: in a personal chat, or in the group with this id."""
    if group:
        return {
            "from": JID(group, GROUP_SERVER),
            "participant": lid_of(person),
            "participant_pn": JID(person.phone),
        }
    return {"from": lid_of(person), "sender_pn": JID(person.phone)}


def _retry(exchange: Exchange, person: Person, device: Device, receipt: Receipt) -> list[Node]:
    handset = exchange.handsets.of(person.phone)
    handset.forget(device.lid)
    registration, *keys = bundle_nodes(handset.bundle())
    attrs = {"v": "1", "count": str(receipt.count), "id": receipt.ids[0], "t": now()}
    return [Node("retry", attrs), registration, Node("keys", {}, keys)]
