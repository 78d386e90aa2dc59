"""Control API about linked devices and groups: scanning, unlinking, failing logins, changing members."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from aiohttp import web

from kurir_sandbox.control.bodies import Json, RefusalError, digits, json_object, sandbox, text
from kurir_sandbox.control.faults import failure_attributes, failure_reason
from kurir_sandbox.json_values import JsonValue
from kurir_sandbox.world import Group, Member, Role

if TYPE_CHECKING:
    from kurir_sandbox.web_protocol.server import WebNetwork

_ROLES: dict[str, Role] = {"participant": "participant", "admin": "admin", "superadmin": "superadmin"}


async def scan(request: web.Request) -> web.Response:
    """A phone scans a QR text or enters a pairing code: {phone, qr | code}."""
    from kurir_sandbox.web_protocol.server import ScanError  # noqa: PLC0415 - absent wire must not stop the rest

    body, network = await json_object(request), web_network(request)
    phone = digits(body, "phone")
    person = sandbox(request).world.person(phone)
    if person is None or not person.on_whatsapp:
        raise RefusalError("phone", "is nobody's on WhatsApp", 404)
    if (body.get("qr") is None) == (body.get("code") is None):
        raise RefusalError("qr", "or code must be given, one of them")
    field = "qr" if body.get("qr") is not None else "code"
    try:
        way = network.scan if field == "qr" else network.enter_code
        device = await way(phone, text(body, field))
    except ScanError as problem:
        raise RefusalError(field, str(problem).removeprefix(f"{field}: ")) from None
    return web.json_response(asdict(device), status=201)


async def list_devices(request: web.Request) -> web.Response:
    """Every linked device and whether it is connected."""
    network = sandbox(request).web
    return web.json_response([asdict(device) for device in network.linked_devices()] if network else [])


async def change_device(request: web.Request) -> web.Response:
    """Unlink a device, drop its connection, or replace it by another login."""
    network, jid = web_network(request), request.match_info["jid"]
    if all(device.jid != jid for device in network.linked_devices()):
        raise RefusalError("jid", "is no linked device", 404)
    act = {"unlink": network.unlink, "drop": network.drop, "replace": network.replace}
    await act[request.match_info["act"]](jid)
    return web.json_response({"jid": jid, "done": request.match_info["act"]})


async def fail_logins(request: web.Request) -> web.Response:
    """Short for the fault refuse_login on all logins: {reason, …attributes}; null ends it."""
    body, network = await json_object(request), web_network(request)
    given = body.pop("reason", None)
    reason = None if given is None else failure_reason(given)
    network.fail_logins(reason, failure_attributes(body))
    return web.json_response({"reason": reason})


async def list_groups(request: web.Request) -> web.Response:
    """Every group with its members."""
    return web.json_response([asdict(group) for group in sandbox(request).world.groups()])


async def add_group(request: web.Request) -> web.Response:
    """Create a group: {subject, owner, members: [phone or {phone, role}]}."""
    body, parts = await json_object(request), sandbox(request)
    owner = _known(request, body, "owner")
    members: JsonValue = body.get("members", [])
    if not isinstance(members, list):
        raise RefusalError("members", "must be an array")
    group = parts.world.add_group(text(body, "subject"), owner, [_member(request, member) for member in members])
    if parts.web is not None:
        await parts.web.group_changed(group.id, {"kind": "create"})
    return web.json_response(asdict(group), status=201)


async def change_group(request: web.Request) -> web.Response:
    """Rename a group: {subject}."""
    body, group, parts = await json_object(request), _group(request), sandbox(request)
    subject = text(body, "subject")
    parts.world.set_subject(group.id, subject)
    return await _changed(request, group.id, {"kind": "subject"})


async def change_members(request: web.Request) -> web.Response:
    """Add or promote a member: {phone, role}; or remove one: {phone, remove: true}."""
    body, group, world = await json_object(request), _group(request), sandbox(request).world
    if body.get("remove") is True:
        phone = digits(body, "phone")
        if group.role_of(phone) is None:
            raise RefusalError("phone", "is no member", 404)
        world.remove_member(group.id, phone)
        return await _changed(request, group.id, {"kind": "remove", "phones": [phone]})
    member = _member(request, body)
    known = group.role_of(member.phone)
    world.set_member(group.id, member.phone, member.role)
    if known is None:
        return await _changed(request, group.id, {"kind": "add", "phones": [member.phone]})
    kind = "demote" if member.role == "participant" else "promote"
    return await _changed(request, group.id, {"kind": kind, "phones": [member.phone]})


async def _changed(request: web.Request, group_id: str, change: Json) -> web.Response:
    parts = sandbox(request)
    if parts.web is not None:
        await parts.web.group_changed(group_id, change)
    group = parts.world.group(group_id)
    assert group is not None
    return web.json_response(asdict(group))


def web_network(request: web.Request) -> WebNetwork:
    """The linked-device wire."""
    network = sandbox(request).web
    if network is None:
        raise RefusalError("path", "needs the linked-device wire, which is off")
    return network


def _group(request: web.Request) -> Group:
    group = sandbox(request).world.group(request.match_info["id"].removesuffix("@g.us"))
    if group is None:
        raise RefusalError("id", "is no group", 404)
    return group


def _known(request: web.Request, body: Json, key: str) -> str:
    phone = digits(body, key)
    person = sandbox(request).world.person(phone)
    if person is None or not person.on_whatsapp:
        raise RefusalError(key, f"{phone} is nobody's on WhatsApp")
    return phone


def _member(request: web.Request, given: JsonValue) -> Member:
    body: JsonValue = {"phone": given} if isinstance(given, str) else given
    if not isinstance(body, dict):
        raise RefusalError("members", "must hold phone numbers or {phone, role}")
    role: Role | None = _ROLES.get(str(body.get("role", "participant")))
    if role is None:
        raise RefusalError("role", f"must be one of {', '.join(_ROLES)}")
    return Member(_known(request, body, "phone"), role)
