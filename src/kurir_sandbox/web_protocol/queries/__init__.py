"""Queries: the `<iq>` requests of linked devices, one namespace family a module.

Every request must be answered, or the engine waits 75 seconds for each. An unsupported query is answered with
501 feature-not-implemented, so that it is noticed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from ..exchange import Exchange
from ..linked_devices import Device
from ..stanza import Node, StanzaError, refusal
from . import account, app_state_sync, groups, media_connection, prekeys, service, usync

log = structlog.get_logger(__name__)

ERRORS = {
    400: "bad-request",
    401: "not-authorized",
    403: "forbidden",
    404: "item-not-found",
    405: "not-allowed",
    406: "not-acceptable",
    408: "request-timeout",
    409: "conflict",
    410: "gone",
    419: "resource-limit",
    429: "rate-overlimit",
    500: "internal-server-error",
    501: "feature-not-implemented",
    503: "service-unavailable",
}
"""The text that goes with an error code."""

_ANSWERS: dict[str, Callable[[Exchange, Device, Node], Node | Awaitable[Node]]] = {
    "usync": usync.answer,
    "encrypt": prekeys.answer,
    "w:g2": groups.answer,
    "w:m": media_connection.answer,
    "w:sync:app:state": app_state_sync.answer,
    "privacy": account.privacy,
    "blocklist": account.blocklist,
    "w:profile:picture": account.picture,
    "status": account.status,
    "disappearing_mode": service.done,
    "passive": service.done,
    "w:p": service.done,
    "urn:xmpp:ping": service.done,
    "urn:xmpp:whatsapp:dirty": service.done,
    "urn:xmpp:whatsapp:push": service.done,
    "w:stats": service.done,
    "tos": service.done,
    "abt": service.properties,
    "w": service.properties,
    "w:biz": service.business_profiles,
}


async def answer(exchange: Exchange, device: Device, iq: Node) -> Node:
    """The answer to one request; a malformed one gets `<error code=400>` that names the field.

    Raises StanzaError for one without an id, which cannot be answered.
    """
    iq.need_text("id")
    namespace = iq.text("xmlns")
    handler = _ANSWERS.get(namespace)
    if handler is None:
        log.info("query_unsupported", namespace=namespace, tags=[c.tag for c in iq.children])
        return refusal(iq, 501, ERRORS[501])
    try:
        found = handler(exchange, device, iq)
        return found if isinstance(found, Node) else await found
    except StanzaError as error:
        log.warning("query_malformed", device=str(device.lid), reason=str(error))
        return refusal(iq, 400, f"bad-request: {error}")
