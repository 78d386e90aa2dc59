"""The conversation with one client: pairing or login, then its stanzas with their answers and the faults they meet."""

from __future__ import annotations

from dataclasses import replace

import structlog

from kurir_sandbox.faults import Occasion

from . import chat_signals, login, queries, uplink
from .connection import Connection
from .exchange import Exchange
from .linked_devices import Device
from .pairing import Candidate, Pairings
from .protobufs import wa6
from .stanza import GROUP_SERVER, Node, StanzaError, refusal, result

log = structlog.get_logger(__name__)


async def converse(exchange: Exchange, pairings: Pairings, connection: Connection) -> None:
    """Talks with a client until it hangs up.

    Raises NoiseError, CodecError, StanzaError or DecodeError when it breaks the protocol, ConnectionError or
    TimeoutError when it goes away during the handshake.
    """
    greeting = await connection.handshake()
    payload = wa6.ClientPayload.FromString(greeting.payload)
    if not payload.HasField("username"):
        candidate = await pairings.begin(connection, greeting.client_static, payload)
        try:
            while (node := await connection.receive()) is not None:
                await _pair(pairings, candidate, node)
        finally:
            pairings.end(candidate)
        return
    await login.welcome(exchange, connection, greeting.client_static, payload)
    while (node := await connection.receive()) is not None:
        device = connection.device
        if device is None:
            continue
        exchange.log.add(device, node)
        try:
            if not await _broken_off(exchange, connection, device, node):
                await _handle(exchange, connection, device, node)
        except StanzaError as error:
            log.warning("stanza_ignored", device=str(device.lid), reason=str(error))
        except Exception:
            # a mistake of the sandbox in one stanza must not cut the device off from the rest
            log.exception("stanza_failed", device=str(device.lid), stanza=str(node))


async def _pair(pairings: Pairings, candidate: Candidate, node: Node) -> None:
    if node.tag != "iq":
        return
    if node.text("type") == "result":
        if node.child("pair-device-sign"):
            await pairings.signed(candidate, node)
    elif node.text("xmlns") == "md" and node.child("link_code_companion_reg"):
        await pairings.code_stanza(candidate, node)
    elif node.text("type") in ("get", "set"):
        await candidate.connection.send(result(node))


async def _broken_off(exchange: Exchange, connection: Connection, device: Device, node: Node) -> bool:
    """Whether a fault ends the connection at this stanza."""
    occasion = _occasion(exchange, device, node, node.tag)
    fault = exchange.faults.strike(occasion, "cut", "logout", "replace")
    if fault is None:
        return False
    log.info("connection_dropped", device=str(device.lid), effect=fault.effect)
    match fault.effect:
        case "cut":
            connection.cut()
        case "logout":
            await login.unlink(exchange, device)
        case _:
            await connection.finish(login.REPLACED)
    return True


async def _handle(exchange: Exchange, connection: Connection, device: Device, node: Node) -> None:
    match node.tag:
        case "iq" if node.text("type") in ("get", "set"):
            await _answer(exchange, connection, device, node)
        case "message" if node.text("category") == "peer":
            await connection.send(await uplink.receive(exchange, device, node))
        case "message":
            await _take_message(exchange, connection, device, node)
        case "receipt":
            await connection.send(await chat_signals.receive_receipt(exchange, device, node))
        case "ack":
            exchange.devices.settle(device, node)
        case "chatstate":
            await chat_signals.receive_typing(exchange, device, node)
        case "presence":
            await chat_signals.receive_presence(exchange, device, node)
        case _:
            log.debug("stanza_unanswered", device=str(device.lid), tag=node.tag)


async def _take_message(exchange: Exchange, connection: Connection, device: Device, node: Node) -> None:
    """A message for people and its ack, each with the faults that it may meet."""
    faults, occasion = exchange.faults, _occasion(exchange, device, node)
    if faults.strike(occasion, "swallow_message"):
        return
    if refused := faults.strike(occasion, "refuse_message"):
        await connection.send(uplink.acknowledgement(node, str(refused.code), **refused.attributes))
        return
    ack = await uplink.receive(exchange, device, node)
    if faults.strike(occasion, "withhold_ack"):
        return
    if faults.strike(occasion, "cut_before_ack"):
        connection.cut()
    elif slow := faults.strike(occasion, "slow_ack"):
        exchange.delays.after(slow.seconds or 0, lambda: connection.send(ack))
    else:
        await connection.send(ack)


async def _answer(exchange: Exchange, connection: Connection, device: Device, iq: Node) -> None:
    """The answer to a query, with the faults that it may meet."""
    namespace = iq.text("xmlns")
    detail = f"{namespace}/{iq.children[0].tag}" if iq.children else namespace
    faults, occasion = exchange.faults, replace(_occasion(exchange, device, iq, namespace), detail=detail)
    if faults.strike(occasion, "ignore_query"):
        return
    if refused := faults.strike(occasion, "refuse_query"):
        code = refused.code or 500
        words = refused.text or queries.ERRORS.get(code, "error")
        await connection.send(refusal(iq, code, words, **refused.attributes))
    elif slow := faults.strike(occasion, "slow_query"):
        exchange.delays.after(slow.seconds or 0, lambda: _answer_now(exchange, connection, device, iq))
    else:
        await _answer_now(exchange, connection, device, iq)


async def _answer_now(exchange: Exchange, connection: Connection, device: Device, iq: Node) -> None:
    if iq.text("xmlns") == "md" and iq.child("remove-companion-device"):
        await connection.send(result(iq))
        await login.unlink(exchange, device)
        return
    await connection.send(await queries.answer(exchange, device, iq))
    if iq.text("xmlns") == "passive":
        if iq.child("active"):
            await login.activate(exchange, device)
        elif iq.child("passive"):
            exchange.devices.hold(device)


def _occasion(exchange: Exchange, device: Device, node: Node, kind: str = "") -> Occasion:
    to = node.jid("to")
    if to is None:
        return Occasion("linked_device", device.phone, "", kind)
    person = exchange.person_at(to)
    if person is None:
        return Occasion("linked_device", device.phone, to.user if to.server == GROUP_SERVER else "", kind)
    first = node.tag == "message" and not exchange.first_contacts.has_written(person.phone, device.phone)
    return Occasion("linked_device", device.phone, person.phone, kind, first_contact=first)
