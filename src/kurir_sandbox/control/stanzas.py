"""Control API about single stanzas: receipts and calls of people, and anything WhatsApp's server could send."""

from __future__ import annotations

import secrets
import time

from aiohttp import web

from kurir_sandbox.control.bodies import (
    Json,
    RefusalError,
    digits,
    flag,
    integer,
    json_object,
    number,
    query_integer,
    sandbox,
    text,
)
from kurir_sandbox.control.devices import web_network
from kurir_sandbox.control.faults import failure_reason
from kurir_sandbox.control.people import person_of
from kurir_sandbox.json_values import JsonValue
from kurir_sandbox.web_protocol import stanza_json
from kurir_sandbox.web_protocol.stanza import JID, LID_SERVER, Attribute, Node

_LONGEST_DELAY = 3600.0
_MOST_IDS = 10_000
_FINAL = ("failure", "stream:error")
_PLAY = ("keep", "close", "delay")


async def send_receipt(request: web.Request) -> web.Response:
    """A phone sends a receipt: {to, type, ids, group, device, attributes, children, count, delay}."""
    from kurir_sandbox.web_protocol.receipts_of_phones import Receipt  # noqa: PLC0415 - see `devices.scan`

    person, network, body = person_of(request), web_network(request), await json_object(request)
    _only(body, "to", "type", "ids", "group", "device", "attributes", "children", "count", "delay")
    to, group = digits(body, "to"), text(body, "group", "").removesuffix("@g.us")
    if not person.on_whatsapp:
        raise RefusalError("phone", "is not on WhatsApp")
    if group and sandbox(request).world.group(group) is None:
        raise RefusalError("group", "is not known", 404)
    devices = [device.jid for device in network.linked_devices() if device.phone == to]
    if body.get("device") is not None:
        devices = [jid for jid in devices if jid == text(body, "device")]
    if not devices:
        raise RefusalError("device" if body.get("device") is not None else "to", "has no linked device", 404)
    attributes = stanza_json.attributes(body.get("attributes"), "attributes")
    children = stanza_json.nodes(body.get("children"), "children")
    stanza_json.check_size(Node("receipt", attributes, children), "children")
    receipt = Receipt(
        type=text(body, "type", ""),
        ids=_ids(body),
        group=group,
        attributes=attributes,
        children=children,
        count=integer(body, "count", 0, 10**6, 1),
    )

    async def send() -> None:
        for jid in devices:
            await network.send_receipt(person.phone, jid, receipt)

    if delay := _delay(body):
        network.later(delay, send)
    else:
        await send()
    return web.json_response({"devices": devices}, status=201)


async def call(request: web.Request) -> web.Response:
    """A person calls, and what becomes of the call: {to, event: offer|accept|terminate|…, call_id, video, group}."""
    person, network, body = person_of(request), web_network(request), await json_object(request)
    _only(body, "to", "event", "call_id", "video", "attributes", "children", "delay")
    to, event = digits(body, "to"), text(body, "event", "") or "offer"
    devices = [device.jid for device in network.linked_devices() if device.phone == to]
    if not devices:
        raise RefusalError("to", "has no linked device", 404)
    lid = JID(person.lid, LID_SERVER)
    call_id = text(body, "call_id", "") or secrets.token_hex(16).upper()
    attrs: dict[str, Attribute | None] = {
        "call-id": call_id,
        "call-creator": lid,
        **stanza_json.attributes(body.get("attributes"), "attributes"),
    }
    inside = [Node("video")] if flag(body, "video", False) else []
    inside += stanza_json.nodes(body.get("children"), "children")
    stanza = Node(
        "call",
        {"from": lid, "id": secrets.token_hex(8), "t": _now(), "sender_pn": JID(person.phone), "notify": person.name},
        [Node(event, attrs, inside or None)],
    )
    for jid in devices:
        await _play(request, jid, stanza, {"keep": True, **body})
    return web.json_response({"call_id": call_id, "devices": devices}, status=201)


async def list_stanzas(request: web.Request) -> web.Response:
    """What a device sent lately: ?after=<id>&tag=message|receipt|ack|iq|presence|…."""
    jid = _jid(request)
    rows = web_network(request).stanzas(jid, query_integer(request, "after", 0), request.query.get("tag", ""))
    return web.json_response(rows)


async def play_stanza(request: web.Request) -> web.Response:
    """Send one stanza to a device as it is: {tag, attributes, children | content | text, keep, close, delay}."""
    body = await json_object(request)
    stanza = stanza_json.node({key: value for key, value in body.items() if key not in _PLAY}, "stanza")
    return await _played(request, stanza, body)


async def play_notification(request: web.Request) -> web.Response:
    """Send a notification to a device: {type, attributes, children, …}; id, t and from are filled in."""
    body, jid = await json_object(request), _jid(request)
    _only(body, "type", "attributes", "children", *_PLAY)
    device = next(device for device in web_network(request).linked_devices() if device.jid == jid)
    attrs: dict[str, Attribute | None] = {
        "from": JID.parse(device.lid).account,
        "type": text(body, "type"),
        "id": secrets.token_hex(8),
        "t": _now(),
        **stanza_json.attributes(body.get("attributes"), "attributes"),
    }
    children = stanza_json.nodes(body.get("children"), "children")
    return await _played(request, Node("notification", attrs, children or None), {"keep": True, **body})


async def play_failure(request: web.Request) -> web.Response:
    """End a device's connection with `<failure>`: {reason, attributes, children}; for logins see /logins."""
    body = await json_object(request)
    _only(body, "reason", "attributes", "children", *_PLAY)
    attrs: dict[str, Attribute | None] = {
        "reason": None if body.get("reason") is None else str(failure_reason(body["reason"])),
        **stanza_json.attributes(body.get("attributes"), "attributes"),
    }
    children = stanza_json.nodes(body.get("children"), "children")
    return await _played(request, Node("failure", attrs, children or None), body)


async def play_stream_error(request: web.Request) -> web.Response:
    """End a device's connection with `<stream:error>`: {code, conflict, child, attributes, children}."""
    body = await json_object(request)
    _only(body, "code", "conflict", "child", "attributes", "children", *_PLAY)
    attrs: dict[str, Attribute | None] = {
        "code": None if body.get("code") is None else str(failure_reason(body["code"], "code")),
        **stanza_json.attributes(body.get("attributes"), "attributes"),
    }
    children = stanza_json.nodes(body.get("children"), "children")
    if body.get("conflict") is not None:
        children.append(Node("conflict", {"type": text(body, "conflict")}))
    if body.get("child") is not None:
        children.append(Node(text(body, "child")))
    return await _played(request, Node("stream:error", attrs, children or None), body)


async def _played(request: web.Request, stanza: Node, body: Json) -> web.Response:
    jid = _jid(request)
    await _play(request, jid, stanza, body)
    return web.json_response({"jid": jid, "stanza": stanza_json.shown(stanza)}, status=201)


async def _play(request: web.Request, jid: str, stanza: Node, body: Json) -> None:
    network = web_network(request)
    stanza_json.check_size(stanza, "stanza")
    keep, close = flag(body, "keep", False), flag(body, "close", stanza.tag in _FINAL)
    if delay := _delay(body):
        network.later(delay, lambda: network.play(jid, stanza, keep=keep, close=close))
    elif not await network.play(jid, stanza, keep=keep, close=close):
        raise RefusalError("jid", "is not connected", 409)


def _jid(request: web.Request) -> str:
    jid = request.match_info["jid"]
    if all(device.jid != jid for device in web_network(request).linked_devices()):
        raise RefusalError("jid", "is no linked device", 404)
    return jid


def _ids(body: Json) -> list[str]:
    given: JsonValue = body.get("ids")
    if not isinstance(given, list) or not 0 < len(given) <= _MOST_IDS:
        raise RefusalError("ids", f"must be an array of 1 to {_MOST_IDS} message ids")
    ids = [each for each in given if isinstance(each, str)]
    if len(ids) < len(given):
        raise RefusalError("ids", "must hold strings")
    return ids


def _delay(body: Json) -> float:
    return number(body, "delay", 0, _LONGEST_DELAY) if body.get("delay") is not None else 0.0


def _only(body: Json, *known: str) -> None:
    unknown = next((key for key in body if key not in known), None)
    if unknown is not None:
        raise RefusalError(unknown, f"is not known here; known are {', '.join(known)}")


def _now() -> str:
    return str(int(time.time()))
