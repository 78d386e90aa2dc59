"""`w:sync:app:state`: patches of the account's app state, to the device and from it."""

from __future__ import annotations

import structlog

from ..app_state import AppStateError, patches_since
from ..exchange import Exchange
from ..linked_devices import Device, now
from ..stanza import SERVER, Node, StanzaError, result

log = structlog.get_logger(__name__)


async def answer(exchange: Exchange, device: Device, iq: Node) -> Node:
    """One `<collection>` for each asked for: what is new in it, or the version after the device's own patch."""
    answers: list[Node] = []
    for asked in iq.need("sync").children:
        name = asked.need_text("name")
        patch = asked.child("patch")
        if patch is not None:
            answers.append(await _accept(exchange, device, name, patch.need_data()))
        else:
            answers.append(_missing(exchange, device, name, asked.text("version", "0")))
    return result(iq, [Node("sync", {}, answers)])


def _missing(exchange: Exchange, device: Device, name: str, version: str) -> Node:
    state = exchange.app_states.of(device.phone)
    if name not in state.collections:
        raise StanzaError(f"collection: name {name[:40]!r} is unknown")
    if not version.isdecimal():
        raise StanzaError("collection: version is not a number")
    patches = [Node("patch", {}, raw) for raw in patches_since(state, name, int(version))]
    attrs = {"name": name, "version": str(state.collections[name].version), "has_more_patches": "false"}
    return Node("collection", attrs, [Node("patches", {}, patches)] if patches else None)


async def _accept(exchange: Exchange, device: Device, name: str, patch: bytes) -> Node:
    try:
        version = exchange.app_states.accept(device.phone, name, patch)
    except AppStateError as error:
        log.warning("app_state_patch_refused", device=str(device.lid), collection=name, reason=str(error))
        conflict = Node("error", {"code": "409", "text": "conflict"})
        return Node("collection", {"name": name, "type": "error"}, [conflict])
    await announce(exchange, device.phone, name, version, but=device)
    return Node("collection", {"name": name, "version": str(version)})


async def announce(exchange: Exchange, phone: str, name: str, version: int, but: Device | None = None) -> None:
    """Notifies the account's devices (except `but`) that a collection changed, so that they request it."""
    attrs = {"from": SERVER, "type": "server_sync", "id": f"sync-{name}-{version}", "t": now()}
    changed = Node("collection", {"name": name, "version": str(version)})
    for device in exchange.devices.of(phone):
        if device is not but:
            await exchange.devices.post(device, Node("notification", attrs, [changed]))
