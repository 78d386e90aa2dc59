"""`privacy`, `blocklist`, `status` and `w:profile:picture`: settings and pictures of accounts. Nobody has a
picture or blocks anybody here; everything is visible to all.
"""

from __future__ import annotations

from ..exchange import Exchange
from ..linked_devices import Device
from ..stanza import Node, refusal, result

_CATEGORIES = ("readreceipts", "last", "profile", "status", "online", "groupadd", "calladd")


def privacy(exchange: Exchange, device: Device, iq: Node) -> Node:
    """The privacy settings (asked for before the first read receipt); setting tokens gets an empty result."""
    if not iq.child("privacy"):
        return result(iq)
    rows = [Node("category", {"name": name, "value": "all"}) for name in _CATEGORIES]
    return result(iq, [Node("privacy", {}, rows)])


def blocklist(exchange: Exchange, device: Device, iq: Node) -> Node:
    """Nobody is blocked."""
    return result(iq, [Node("list", {"dhash": "0"})])


def picture(exchange: Exchange, device: Device, iq: Node) -> Node:
    """404: no picture is set."""
    return refusal(iq, 404, "item-not-found")


def status(exchange: Exchange, device: Device, iq: Node) -> Node:
    """A device sets the account's "about" text, which is taken and not shown."""
    return result(iq) if iq.text("type") == "set" else refusal(iq, 501, "feature-not-implemented")
