"""Login and logout: which devices are accepted, the first stanzas they get, and how they are disconnected."""

from __future__ import annotations

import secrets
import time

import structlog

from kurir_sandbox.faults import Fault, Occasion

from . import device_news, downlink
from .connection import Connection
from .drafts import Outgoing
from .exchange import Exchange, lid_of
from .linked_devices import Device, now
from .protobufs import e2e, wa6
from .stanza import JID, Attribute, Node

log = structlog.get_logger(__name__)

REPLACED = Node("stream:error", {}, [Node("conflict", {"type": "replaced"})])
REMOVED = Node("stream:error", {"code": "401"}, [Node("conflict", {"type": "device_removed"})])


async def welcome(exchange: Exchange, connection: Connection, noise_key: bytes, payload: wa6.ClientPayload) -> None:
    """Lets a linked device in (`<success>`) or answers `<failure>`; on success `connection.device` is set.

    401 means that the device is not linked (any more): the engine then deletes its data.
    """
    occasion = Occasion("linked_device", str(payload.username))
    if refused := exchange.faults.strike(occasion, "refuse_login"):
        await connection.finish(Node("failure", {"reason": str(refused.reason), **refused.attributes}))
        return
    device = exchange.devices.find(JID(str(payload.username), device=payload.device))
    if device is None or device.noise_key != noise_key:
        log.info("login_refused", phone=payload.username, device_id=payload.device)
        await connection.finish(Node("failure", {"reason": "401", "location": "cln"}))
        return
    earlier = exchange.devices.line(device)
    if isinstance(earlier, Connection):
        await earlier.finish(REPLACED)
    connection.device = device
    exchange.devices.attach(device, connection)
    person = exchange.world.person(device.phone)
    attrs: dict[str, Attribute | None] = {
        "t": now(),
        "lid": device.lid,
        "display_name": person.name if person else None,
        "props": "0",
    }
    await connection.send(Node("success", attrs))
    log.info("device_logged_in", device=str(device.lid))
    if ended := exchange.faults.strike(Occasion("linked_device", device.phone), "end_login"):
        await _end(exchange, connection, ended)
    elif not payload.passive:  # only a passive client announces when it is ready
        await activate(exchange, device)


async def _end(exchange: Exchange, connection: Connection, fault: Fault) -> None:
    """Ends a connection that has only just logged in, now or in a while."""

    async def end() -> None:
        if fault.code is not None:
            await connection.send(Node("stream:error", {"code": str(fault.code)}))
        await connection.hang_up()

    if fault.seconds:
        exchange.delays.after(fault.seconds, end)
    else:
        await end()


async def activate(exchange: Exchange, device: Device) -> None:
    """The device is ready for messages: it gets the app state key (once) and everything that waits for it."""
    if not device.has_app_state_key:
        await _share_app_state_key(exchange, device)
        device.has_app_state_key = True
        exchange.devices.save(device)
    await exchange.devices.activate(device)


async def unlink(exchange: Exchange, device: Device) -> None:
    """Removes the device from its account; if it is online it is notified."""
    line = exchange.devices.line(device)
    exchange.devices.remove(device)
    await device_news.announce(exchange, device, "remove")
    log.info("device_unlinked", device=str(device.lid))
    if isinstance(line, Connection):
        line.device = None
        await line.finish(REMOVED)


async def _share_app_state_key(exchange: Exchange, device: Device) -> None:
    """A peer message of the own phone, with the key that opens the account's app state."""
    person = exchange.world.person(device.phone)
    if person is None:
        return
    state = exchange.app_states.of(device.phone)
    message = e2e.Message()
    message.protocolMessage.type = e2e.ProtocolMessage.APP_STATE_SYNC_KEY_SHARE
    key = message.protocolMessage.appStateSyncKeyShare.keys.add()
    key.keyID.keyID = state.key_id
    key.keyData.keyData = state.key_data
    key.keyData.timestamp = int(time.time() * 1000)
    key.keyData.fingerprint.rawID = 1
    key.keyData.fingerprint.currentIndex = 0
    key.keyData.fingerprint.deviceIndexes.extend([0, device.device_id])
    enc = await downlink.encrypt(exchange, person, device, Outgoing(message.SerializeToString()))
    attrs: dict[str, Attribute | None] = {
        "from": lid_of(person),
        "id": secrets.token_hex(16).upper(),
        "t": now(),
        "type": "text",
        "category": "peer",
    }
    await exchange.devices.post(device, Node("message", attrs, [enc]))
