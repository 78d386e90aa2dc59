"""Queries about the service itself: keep-alive, "I have read that", settings of the connection, and properties."""

from __future__ import annotations

from ..exchange import Exchange
from ..linked_devices import Device, now
from ..stanza import Node, StanzaError, refusal, result


def done(exchange: Exchange, device: Device, iq: Node) -> Node:
    """An empty result: pings, active or passive, clean dirty bits, push settings, statistics, terms of service."""
    return result(iq)


def properties(exchange: Exchange, device: Device, iq: Node) -> Node:
    """`abt` and `w`: the server's switches for clients. None is set."""
    if not iq.child("props"):
        return refusal(iq, 501, "feature-not-implemented")
    attrs = {"protocol": "1", "version": "1", "hash": "sandbox", "ab_key": "", "refresh": "86400", "refresh_id": now()}
    return result(iq, [Node("props", attrs, [])])


def business_profiles(exchange: Exchange, device: Device, iq: Node) -> Node:
    """`w:biz`: nobody has a business profile. Raises StanzaError."""
    wanted = iq.child("business_profile")
    if wanted is None or iq.text("type") != "get":
        return refusal(iq, 501, "feature-not-implemented")
    if not wanted.children:
        raise StanzaError("business_profile: profile expected")
    return result(iq, [Node("business_profile", {"v": wanted.text("v", "244")}, [])])
