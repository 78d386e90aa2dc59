"""`usync`: what a device wants to know about people: whether they are on WhatsApp, their LID, devices, status and
picture.

A contact query has the number as text ("+55…" or "55…", with or without "@c.us"), the others a JID. Both are
answered with the LID, unless a fault hides it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kurir_sandbox.faults import Occasion
from kurir_sandbox.number_aliases import canonical

from ..exchange import Exchange, lid_of
from ..linked_devices import Device, now
from ..stanza import JID, Attribute, Node, result

if TYPE_CHECKING:
    from kurir_sandbox.world import Person

_ABOUT = b"Hey there! I am using WhatsApp."


def answer(exchange: Exchange, device: Device, iq: Node) -> Node:
    """One `<user>` for each one asked for, with the protocols of the query. Raises StanzaError."""
    usync = iq.need("usync")
    wanted = [c.tag for c in usync.need("query").children]
    users: list[Node] = []
    for user in usync.need("list").children:
        contact = user.child("contact")
        if contact is not None and contact.data:
            users.append(_contact(exchange, device, contact, wanted))
        else:
            users.append(_known(exchange, device, user.need_jid("jid"), wanted))
    attrs: dict[str, Attribute | None] = {
        "sid": usync.text("sid"),
        "mode": usync.text("mode"),
        "context": usync.text("context"),
        "index": "0",
        "last": "true",
    }
    content = [Node("result", {}, [Node(tag) for tag in wanted]), Node("list", {}, users)]
    return result(iq, [Node("usync", attrs, content)])


def _contact(exchange: Exchange, asker: Device, contact: Node, wanted: list[str]) -> Node:
    number = contact.data.decode("utf-8", "replace").partition("@")[0].lstrip("+")
    person = exchange.world.person(canonical(exchange.world.state, number))
    if person is None or not person.on_whatsapp:
        return Node("user", {"pn_jid": JID(number)}, [Node("contact", {"type": "out"}, contact.data)])
    hidden = _hidden(exchange, asker, person)
    found = Node("contact", {"type": "in"}, contact.data)
    attrs = {"jid": JID(person.phone) if hidden else lid_of(person), "pn_jid": JID(person.phone)}
    facts = _facts(exchange, person, [tag for tag in wanted if tag != "contact"], hidden)
    return Node("user", attrs, [found, *facts])


def _known(exchange: Exchange, asker: Device, jid: JID, wanted: list[str]) -> Node:
    person = exchange.person_at(jid)
    if person is None:
        absent = Node("error", {"code": "404", "text": "item-not-found"})
        return Node("user", {"jid": jid}, [Node("devices", {}, [absent])])
    return Node("user", {"jid": jid}, _facts(exchange, person, wanted, _hidden(exchange, asker, person)))


def _hidden(exchange: Exchange, asker: Device, person: Person) -> bool:
    """Whether a fault hides the person's LID."""
    return exchange.faults.strike(Occasion("linked_device", asker.phone, person.phone), "hide_lid") is not None


def _facts(exchange: Exchange, person: Person, wanted: list[str], hidden: bool) -> list[Node]:
    facts: list[Node] = []
    if "devices" in wanted:
        ids = [0, *(d.device_id for d in exchange.devices.of(person.phone))]
        listed = Node("device-list", {}, [Node("device", {"id": str(i)}) for i in ids])
        facts.append(Node("devices", {}, [listed, Node("key-index-list", {"ts": now()})]))
    if "lid" in wanted and not hidden:
        facts.append(Node("lid", {"val": lid_of(person)}))
    if "status" in wanted:
        facts.append(Node("status", {}, _ABOUT))
    if "picture" in wanted:
        facts.append(Node("picture"))
    return facts
