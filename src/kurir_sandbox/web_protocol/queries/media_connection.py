"""`w:m`: where media are uploaded to and downloaded from."""

from __future__ import annotations

from ..exchange import Exchange
from ..linked_devices import Device
from ..media import HOST
from ..stanza import Node, result

_AUTH = "sandbox-"


def answer(exchange: Exchange, device: Device, iq: Node) -> Node:
    """One host for everything; times in seconds. The authorisation token names the account."""
    attrs = {"auth": _AUTH + device.phone, "auth_ttl": "21600", "ttl": "300", "max_buckets": "12"}
    return result(iq, [Node("media_conn", attrs, [Node("host", {"hostname": HOST})])])


def account_of(auth: str) -> str:
    """The phone number that an authorisation token was given to, empty for any other text."""
    return auth.removeprefix(_AUTH) if auth.startswith(_AUTH) else ""
