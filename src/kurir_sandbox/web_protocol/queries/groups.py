"""`w:g2`: the groups a device's account is in, and one group's subject and participants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..exchange import Exchange, lid_of
from ..linked_devices import Device
from ..stanza import GROUP_SERVER, JID, LID_SERVER, Attribute, Node, refusal, result

if TYPE_CHECKING:
    from kurir_sandbox.world import Group, Member


def answer(exchange: Exchange, device: Device, iq: Node) -> Node:
    """The participating list or one group; error 404 for an unknown group, 403 for one the account is not in.

    Raises StanzaError.
    """
    if iq.child("participating"):
        mine = [g for g in exchange.world.groups() if any(m.phone == device.phone for m in g.members)]
        return result(iq, [Node("groups", {}, [group_node(exchange, g) for g in mine])])
    to = iq.need_jid("to")
    group = exchange.world.group(to.user) if to.server == GROUP_SERVER else None
    if group is None:
        return refusal(iq, 404, "item-not-found")
    if all(m.phone != device.phone for m in group.members):
        return refusal(iq, 403, "forbidden")
    if iq.child("query"):
        return result(iq, [group_node(exchange, group)])
    return refusal(iq, 501, "feature-not-implemented")


def group_node(exchange: Exchange, group: Group) -> Node:
    """A `<group>` with its participants, addressed by LID."""
    owner = exchange.world.person(group.owner)
    creator = lid_of(owner) if owner else None
    attrs: dict[str, Attribute | None] = {
        "id": group.id,
        "subject": group.subject,
        "creator": creator,
        "creation": str(group.created),
        "s_t": str(group.created),
        "s_o": creator,
        "addressing_mode": "lid",
        "size": str(len(group.members)),
    }
    return Node("group", attrs, [n for m in group.members if (n := participant_node(exchange, m))])


def participant_node(exchange: Exchange, member: Member) -> Node | None:
    """A `<participant>`; `type` is set for admins only. None for a member that the world doesn't know."""
    person = exchange.world.person(member.phone)
    if person is None:
        return None
    role = None if member.role == "participant" else member.role
    return Node("participant", participant_attrs(person.lid, person.phone, role))


def participant_attrs(lid: str, phone: str, role: str | None = None) -> dict[str, Attribute | None]:
    """The attributes that name a participant by LID and number."""
    return {"jid": JID(lid, LID_SERVER), "phone_number": JID(phone), "type": role}
