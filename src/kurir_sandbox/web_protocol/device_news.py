"""Notifies linked devices when an account's list of devices changes (`<notification type=devices>`).

Clients keep the device lists of everybody they wrote to; without the news a newly linked device would not get what
they send. The hash covers the whole new list, so that a client notices when its copy was wrong and asks anew.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import Literal

from .exchange import Exchange
from .linked_devices import Device, now
from .stanza import JID, Node


async def announce(exchange: Exchange, changed: Device, change: Literal["add", "remove"]) -> None:
    """Notifies all other linked devices that `changed` was linked or unlinked (the register knows it already)."""
    account = changed.lid.account
    devices = [account, *(d.lid for d in exchange.devices.of(changed.phone))]
    news = Node(
        change,
        {"device_hash": device_list_hash(devices)},
        [Node("device", {"jid": changed.lid}), Node("key-index-list", {"ts": now()})],
    )
    for device in exchange.devices.all():
        if device.jid != changed.jid:
            attrs = {"from": account, "type": "devices", "id": secrets.token_hex(8), "t": now()}
            await exchange.devices.post(device, Node("notification", attrs, [news]))


def device_list_hash(devices: list[JID]) -> str:
    """ "2:" and the base64 of 6 bytes of SHA-256 over the sorted addresses, each as user.0:device@server."""
    names = sorted(f"{d.user}.0:{d.device}@{d.server}" for d in devices)
    digest = hashlib.sha256("".join(names).encode()).digest()[:6]
    return f"2:{base64.b64encode(digest).decode().rstrip('=')}"
