"""Notifies linked devices of changes of a group (`<notification type=w:gp2>`)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from kurir_sandbox.json_values import JsonValue

from .exchange import Exchange, lid_of
from .linked_devices import now
from .queries.groups import group_node, participant_attrs
from .stanza import GROUP_SERVER, JID, Attribute, Node

if TYPE_CHECKING:
    from kurir_sandbox.world import Group, Person

_MEMBER_CHANGES = ("add", "remove", "promote", "demote")


class ChangeError(ValueError):
    """A change that is not understood; the text names the field."""


async def announce(exchange: Exchange, group_id: str, change: dict[str, JsonValue]) -> None:
    """Notifies the linked devices of the members (and of those who were removed) of one change of the world.

    `change` has a "kind": "create", "subject", or "add", "remove", "promote", "demote" with "phones" (list of digits);
    and optionally "by", the phone of who did it (the owner if absent). Who was added gets the whole group instead.
    Raises ChangeError.
    """
    group = exchange.world.group(group_id)
    if group is None:
        raise ChangeError(f"group_id: {group_id} is unknown")
    kind = str(change.get("kind", ""))
    listed = change.get("phones")
    phones = [str(p) for p in listed] if isinstance(listed, list) else []
    by = exchange.world.person(str(change.get("by") or group.owner))
    members = [m.phone for m in group.members]
    whole = Node("create", {"type": "new" if kind == "create" else None}, [group_node(exchange, group)])
    if kind == "create":
        await _notify(exchange, group, by, members, whole)
    elif kind == "subject":
        attrs: dict[str, Attribute | None] = {"subject": group.subject, "s_t": now(), "s_o": lid_of(by) if by else None}
        await _notify(exchange, group, by, members, Node("subject", attrs))
    elif kind in _MEMBER_CHANGES:
        if not phones:
            raise ChangeError("phones: the numbers concerned are expected")
        people = [p for p in map(exchange.world.person, phones) if p]
        news = Node(kind, {}, [Node("participant", participant_attrs(p.lid, p.phone)) for p in people])
        if kind == "add":
            await _notify(exchange, group, by, phones, whole)
            members = [m for m in members if m not in phones]
        await _notify(
            exchange, group, by, list(dict.fromkeys([*members, *phones])) if kind == "remove" else members, news
        )
    else:
        raise ChangeError(f"kind: {kind!r} is unknown")


async def _notify(exchange: Exchange, group: Group, by: Person | None, phones: list[str], news: Node) -> None:
    attrs: dict[str, Attribute | None] = {
        "from": JID(group.id, GROUP_SERVER),
        "type": "w:gp2",
        "id": secrets.token_hex(8),
        "t": now(),
        "participant": lid_of(by) if by else None,
        "participant_pn": JID(by.phone) if by else None,
        "notify": by.name if by else None,
        "addressing_mode": "lid",
    }
    for phone in phones:
        for device in exchange.devices.of(phone):
            await exchange.devices.post(device, Node("notification", attrs, [news]))
