"""`encrypt`: one-time keys of linked devices (count, digest, upload) and key bundles of anybody's devices (fetch)."""

from __future__ import annotations

import hashlib

from kurir_sandbox.faults import Occasion

from .. import downlink
from ..exchange import Exchange
from ..key_bundles import bundle_nodes
from ..linked_devices import Device
from ..stanza import JID, Node, StanzaError, refusal, result

_MAX_KEYS = 2000


async def answer(exchange: Exchange, device: Device, iq: Node) -> Node:
    """The answer to a count, digest, fetch, upload or rotation. Raises StanzaError."""
    if iq.child("count"):
        return result(iq, [Node("count", {"value": str(exchange.devices.one_time_key_count(device))})])
    if iq.child("digest"):
        return result(iq, [_digest(exchange, device)])
    wanted = iq.child("key")
    if wanted:
        users = [await _bundle(exchange, device, user.need_jid("jid")) for user in wanted.children]
        return result(iq, [Node("list", {}, [user for user in users if user is not None])])
    if iq.child("rotate"):
        _rotate(exchange, device, iq)
    elif iq.child("list"):
        _upload(exchange, device, iq)
    else:
        return refusal(iq, 501, "feature-not-implemented")
    return result(iq)


async def _bundle(exchange: Exchange, asker: Device, jid: JID) -> Node | None:
    """The keys of one device, or why they are not given; None: it is left out."""
    person = exchange.person_at(jid)
    occasion = Occasion("linked_device", asker.phone, person.phone if person else jid.user, device=jid.device)
    if exchange.faults.strike(occasion, "omit_keys"):
        return None
    if without := exchange.faults.strike(occasion, "no_keys"):
        attrs = {"code": str(without.code or 404), "text": without.text or "item-not-found"}
        return Node("user", {"jid": jid}, [Node("error", attrs)])
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


def _rotate(exchange: Exchange, device: Device, iq: Node) -> None:
    """The device replaces its signed key."""
    key = iq.need("rotate", "skey")
    device.signed_key_id = int.from_bytes(key.need_data("id", size=3), "big")
    device.signed_key, device.signature = key.need_data("value", size=32), key.need_data("signature", size=64)
    exchange.devices.save(device)


def _digest(exchange: Exchange, device: Device) -> Node:
    """What the server holds of the device's keys; the hash is SHA-1 over the public keys in the order of the list."""
    one_time = exchange.devices.one_time_keys(device)
    held = [device.identity, device.signed_key, device.signature, *one_time.values()]
    registration, kind, identity, signed, *_ = bundle_nodes(exchange.devices.public_keys(device))
    listed = Node("list", {}, [Node("id", {}, number.to_bytes(3, "big")) for number in one_time])
    digest = hashlib.sha1(b"".join(held), usedforsecurity=False).digest()
    return Node("digest", {}, [registration, kind, identity, signed, listed, Node("hash", {}, digest)])
