"""Contact lists from WhatsApp: a device's address book, a group's members, and which people of a list are on WhatsApp.

Queries to a linked device raise `DeviceUnavailable` when the device cannot answer; what was stored before stays, and a
repetition continues from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from sqlalchemy import Connection

from kurir.accounts.accounts import Account
from kurir.channels.linked_device.protocol import DeviceContact, DeviceGroup
from kurir.contacts import contacts
from kurir.contacts.contacts import AudienceStatus, ContactList, ListType, Person
from kurir.kit.clock import system_clock
from kurir.messages.addresses import AddressError, parse_group, parse_phone
from kurir.numbers.numbers import Number
from kurir.store.database import LONG_WORK, Database

LOOKUP = 50
"""Phone numbers in one query to WhatsApp."""


class LinkedDevices(Protocol):
    """The queries to linked devices; each may raise DeviceUnavailable."""

    async def is_on_whatsapp(self, number: Number, phones: Sequence[str]) -> dict[str, bool]: ...

    async def contacts(self, number: Number) -> list[DeviceContact]: ...

    async def groups(self, number: Number) -> list[DeviceGroup]: ...


class SyncReport(msgspec.Struct, frozen=True):
    """The result of a sync: the list's public id, people new and known, and those removed or without a phone number."""

    contact_key: str
    stored: int
    merged: int
    removed: int
    hidden: int


class CheckReport(msgspec.Struct, frozen=True):
    """The result of checking who is on WhatsApp; `unknown` got no answer and stay unchecked."""

    valid: int
    invalid: int
    unknown: int


class NoSuchGroup(LookupError):  # noqa: N818 - a state of the world, not a mistake
    """The sender number is not in a group with that id."""


async def sync_contacts(
    database: Database, linked_devices: LinkedDevices, account: Account, number: Number
) -> SyncReport:
    """Copies the device's address book into the number's list (type `sync_from_whatsapp`), creating it on first use.

    People who left the address book stay in the list: right after a pairing the device knows only some of them.
    """
    known = await linked_devices.contacts(number)
    people = [(contact.phone, contact.name) for contact in known]
    name = number.name or number.phone or number.key
    mirror = _Mirror("sync_from_whatsapp", number.id, "", name)
    return await _take_over(database, account, mirror, people, complete=False)


async def sync_group(
    database: Database, linked_devices: LinkedDevices, account: Account, number: Number, group_id: str
) -> SyncReport:
    """Makes the group's list (type `group`) contain exactly its members, as far as WhatsApp reveals their numbers.

    Raises AddressError for an invalid group id, and NoSuchGroup.
    """
    wanted = parse_group(group_id)
    group = next((group for group in await linked_devices.groups(number) if group.id == wanted), None)
    if group is None:
        raise NoSuchGroup(wanted)
    people = [(participant.phone, participant.name) for participant in group.participants]
    mirror = _Mirror("group", number.id, wanted, group.subject or wanted)
    return await _take_over(database, account, mirror, people, complete=True)


async def check_numbers(
    database: Database,
    linked_devices: LinkedDevices,
    account: Account,
    number: Number,
    contact_id: int,
    *,
    progress: Callable[[int], object] | None = None,
) -> CheckReport:
    """Checks on WhatsApp everybody in a list who was not checked yet, and stores valid or invalid.

    A number without an answer stays unchecked. `progress` is called with the number of people checked.
    """
    tally = {"valid": 0, "invalid": 0}
    last, asked = 0, 0
    while True:
        people = await database.read(
            lambda c, after=last: contacts.audience_after(
                c, account.id, contact_id, after_id=after, limit=LOOKUP, status="not_checked"
            ),
            of=account.id,
        )
        if not people:
            return CheckReport(tally["valid"], tally["invalid"], asked - sum(tally.values()))
        answers = await linked_devices.is_on_whatsapp(number, [person.phone for person in people])
        statuses: dict[str, AudienceStatus] = {
            person.phone: "valid" if answers[person.phone] else "invalid"
            for person in people
            if person.phone in answers
        }
        now = system_clock()
        await database.write(
            lambda c, found=statuses, at=now: contacts.set_statuses(c, account.id, contact_id, found, at=at)
        )
        for status in statuses.values():
            tally[status] += 1
        last, asked = people[-1].id, asked + len(people)
        if progress is not None:
            progress(asked)


class _Mirror(msgspec.Struct, frozen=True):
    """What a list mirrors, and its name for when it has to be created."""

    type: ListType
    number_id: int
    group_id: str
    name: str


def _list_of(connection: Connection, account_id: int, mirror: _Mirror, now: float) -> ContactList:
    return contacts.create_list(
        connection, account_id, mirror.name, mirror.type, number_id=mirror.number_id, group_id=mirror.group_id, at=now
    )


async def _take_over(
    database: Database,
    account: Account,
    mirror: _Mirror,
    found: Sequence[tuple[str, str]],
    *,
    complete: bool,
) -> SyncReport:
    """Stores the (phone, name) pairs in the list, a chunk per transaction; everybody else is removed from a `complete`
    list."""
    people = [Person(phone, " ".join(name.split())) for raw, name in found if (phone := _digits(raw))]
    now = system_clock()
    contact = await database.write(lambda c: _list_of(c, account.id, mirror, now))
    stored = merged = removed = 0
    for start in range(0, len(people), contacts.CHUNK):
        chunk = people[start : start + contacts.CHUNK]
        added = await database.write(
            lambda c, p=chunk: contacts.add_audiences(c, account.id, contact.id, p, at=now), timeout=LONG_WORK
        )
        stored += added.new
        merged += added.merged
    if complete:
        present = [person.phone for person in people]
        removed = await database.write(
            lambda c: contacts.keep_only(c, account.id, contact.id, present, at=now), timeout=LONG_WORK
        )
    return SyncReport(contact.key, stored, merged, removed, len(found) - len(people))


def _digits(phone: str) -> str:
    """The phone in digits, or "" when the device does not know it (WhatsApp hides members of large groups)."""
    try:
        return parse_phone("+" + phone.lstrip("+")) if phone else ""
    except AddressError:
        return ""
