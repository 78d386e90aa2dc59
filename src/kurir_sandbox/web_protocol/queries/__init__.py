"""Queries: the `<iq>` requests of linked devices, one namespace family a module.

Every request must be answered, or the engine waits 75 seconds for each; a namespace that means nothing here gets an
empty result, which is what the engine needs for the likes of keep-alive pings and privacy tokens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from ..exchange import Exchange
from ..linked_devices import Device
from ..stanza import Node, StanzaError, refusal, result
from . import account, app_state_sync, groups, media_connection, prekeys, usync

log = structlog.get_logger(__name__)

_ANSWERS: dict[str, Callable[[Exchange, Device, Node], Node | Awaitable[Node]]] = {
    "usync": usync.answer,
    "encrypt": prekeys.answer,
    "w:g2": groups.answer,
    "w:m": media_connection.answer,
    "w:sync:app:state": app_state_sync.answer,
    "privacy": account.privacy,
    "blocklist": account.blocklist,
    "w:profile:picture": account.picture,
}


async def answer(exchange: Exchange, device: Device, iq: Node) -> Node:
    """The answer to one request; a malformed one gets `<error code=400>` that names the field.

    Raises StanzaError for one without an id, which cannot be answered.
    """
    iq.need_text("id")
    namespace = iq.text("xmlns")
    handler = _ANSWERS.get(namespace)
    if handler is None:
        log.debug("query_without_meaning", namespace=namespace, tags=[c.tag for c in iq.children])
        return result(iq)
    try:
        found = handler(exchange, device, iq)
        return found if isinstance(found, Node) else await found
    except StanzaError as error:
        log.warning("query_malformed", device=str(device.lid), reason=str(error))
        return refusal(iq, 400, f"bad-request: {error}")
