"""`encrypt`: one-time keys of linked devices (count, upload) and key bundles of anybody's devices (fetch)."""

from __future__ import annotations

from .. import downlink
from ..exchange import Exchange
from ..key_bundles import bundle_nodes
from ..linked_devices import Device
from ..stanza import JID, Node, StanzaError, result

_MAX_KEYS = 2000


async def answer(exchange: Exchange, device: Device, iq: Node) -> Node:
    """The answer to a count, fetch or upload. Raises StanzaError."""
    if iq.child("count"):
        return result(iq, [Node("count", {"value": str(exchange.devices.one_time_key_count(device))})])
    wanted = iq.child("key")
    if wanted:
        users = [await _bundle(exchange, user.need_jid("jid")) for user in wanted.children]
        return result(iq, [Node("list", {}, users)])
    if iq.child("list"):
        _upload(exchange, device, iq)
    return result(iq)


async def _bundle(exchange: Exchange, jid: JID) -> Node:
    person = exchange.person_at(jid)
    if person and jid.device == 0:
        return Node("user", {"jid": jid}, bundle_nodes(exchange.handsets.of(person.phone).bundle()))
    target = exchange.devices.find(jid)
    if person and target:
        return Node("user", {"jid": jid}, bundle_nodes(await downlink.use_bundle(exchange, target)))
    return Node("user", {"jid": jid}, [Node("error", {"code": "404", "text": "item-not-found"})])


def _upload(exchange: Exchange, device: Device, iq: Node) -> None:
    listed = iq.need("list").children
    if len(listed) > _MAX_KEYS:
        raise StanzaError(f"list: {len(listed)} one-time keys, at most {_MAX_KEYS}")
    keys = {int.from_bytes(key.need_data("id", size=3), "big"): key.need_data("value", size=32) for key in listed}
    exchange.devices.add_one_time_keys(device, keys)
