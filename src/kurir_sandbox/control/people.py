"""Control API about people: who there is, what reached their phones, and what they do on them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from aiohttp import web

from kurir_sandbox import number_aliases
from kurir_sandbox.control.bodies import (
    RefusalError,
    digits,
    flag,
    json_object,
    query_integer,
    query_seconds,
    sandbox,
    text,
)
from kurir_sandbox.ledger import Record
from kurir_sandbox.world import Person

_LONGEST_WAIT = 60.0


async def list_people(request: web.Request) -> web.Response:
    """Everyone, with their linked devices."""
    parts = sandbox(request)
    linked: dict[str, list[str]] = {}
    for device in parts.web.linked_devices() if parts.web else ():
        linked.setdefault(device.phone, []).append(device.jid)
    people = parts.world.people()
    return web.json_response([asdict(person) | {"devices": linked.get(person.phone, [])} for person in people])


async def add_person(request: web.Request) -> web.Response:
    """Add or change a person: {phone, name, on_whatsapp}."""
    body, world = await json_object(request), sandbox(request).world
    phone = digits(body, "phone")
    if world.business_by_phone(phone):
        raise RefusalError("phone", "is an official number")
    person = world.add_person(phone, text(body, "name"), flag(body, "on_whatsapp", True))
    return web.json_response(asdict(person) | {"devices": []}, status=201)


async def read_inbox(request: web.Request) -> web.Response:
    """Messages on a phone after an id; `wait` seconds for news when there are none."""
    person = person_of(request)
    after = query_integer(request, "after", 0)
    wait = query_seconds(request, "wait", _LONGEST_WAIT) or 0.0
    records = await sandbox(request).phones.inbox(person.phone, after, wait)
    return web.json_response([shown(record) for record in records])


def shown(record: Record) -> dict[str, Any]:
    """A ledger row as the control API shows it; every key is always there."""
    return {
        "id": record.id,
        "at": record.at,
        "channel": record.channel,
        "phone": record.phone,
        "from": record.sender,
        "chat": record.chat,
        "wire_id": record.wire_id,
        **record.content,
        "content_hash": record.content_hash,
        "receipts": record.receipts,
    }


async def read_chats(request: web.Request) -> web.Response:
    """The person opens the chats: read receipts for everything, or up to an id: {upto}."""
    person, body = person_of(request), await json_object(request)
    upto = body.get("upto")
    if upto is not None and (isinstance(upto, bool) or not isinstance(upto, int) or not 0 <= upto < 2**62):
        raise RefusalError("upto", "must be a message id")
    return web.json_response({"read": await sandbox(request).phones.read(person.phone, upto)})


async def type_message(request: web.Request) -> web.Response:
    """The person starts or stops typing to a number: {to, on}."""
    person, body, network = person_of(request), await json_object(request), sandbox(request).web
    to, on = digits(body, "to"), flag(body, "on", True)
    if network is None or not network.owns(to):
        raise RefusalError("to", "is no number with linked devices", 404)
    await network.typing(person.phone, to, on)
    return web.json_response({"typing": on})


async def list_activity(request: web.Request) -> web.Response:
    """What the phone saw besides messages (typing, presence, read), after an id."""
    person = person_of(request)
    seen = sandbox(request).phones.activities(person.phone, query_integer(request, "after", 0))
    return web.json_response([asdict(activity) for activity in seen])


async def list_contacts(request: web.Request) -> web.Response:
    """The person's address book: phone number → name."""
    return web.json_response(sandbox(request).world.contacts_of(person_of(request).phone))


async def set_contact(request: web.Request) -> web.Response:
    """Write a number down in the person's address book: {phone, name}; an empty name removes it."""
    person, body, parts = person_of(request), await json_object(request), sandbox(request)
    parts.world.set_contact(person.phone, digits(body, "phone"), text(body, "name", ""))
    if parts.web is not None:
        await parts.web.contacts_changed(person.phone)
    return web.json_response(parts.world.contacts_of(person.phone))


async def list_aliases(request: web.Request) -> web.Response:
    """Other ways to write the person's number, which WhatsApp answers with this one."""
    return web.json_response(number_aliases.aliases_of(sandbox(request).world.state, person_of(request).phone))


async def set_alias(request: web.Request) -> web.Response:
    """Another way to write the person's number: {alias}; {alias, remove: true} ends it."""
    person, body, world = person_of(request), await json_object(request), sandbox(request).world
    alias = digits(body, "alias")
    if alias == person.phone:
        raise RefusalError("alias", "is the number itself")
    number_aliases.set_alias(world.state, alias, None if flag(body, "remove", False) else person.phone)
    return web.json_response(number_aliases.aliases_of(world.state, person.phone), status=201)


def person_of(request: web.Request) -> Person:
    """The person that the path names."""
    phone = request.match_info["phone"]
    person = sandbox(request).world.person(phone)
    if person is None:
        raise RefusalError("phone", "is nobody's", 404)
    return person
