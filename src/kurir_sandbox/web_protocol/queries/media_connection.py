"""`w:m`: where media are uploaded to and downloaded from."""

from __future__ import annotations

from ..exchange import Exchange
from ..linked_devices import Device
from ..media import HOST
from ..stanza import Node, result


def answer(exchange: Exchange, device: Device, iq: Node) -> Node:
    """One host for everything; times in seconds. The authorisation token means nothing here."""
    attrs = {"auth": "sandbox", "auth_ttl": "21600", "ttl": "300", "max_buckets": "12"}
    return result(iq, [Node("media_conn", attrs, [Node("host", {"hostname": HOST})])])
