"""Contact lists and the people in them: a *contact* of the wire is a list, its *audiences* are the people.

A person is in a list once, identified by phone number (digits). Adding somebody again merges: a non-empty new name
replaces the old one, custom fields are added to the existing ones. A list and its people belong to one account; every
function takes the account first, and another account's data are not found.

More than 300 lines: the queries and changes of two tables, each a few lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.contacts.changes import publish_change
from kurir.contacts.tables import audiences, contacts
from kurir.kit.ids import opaque_id
from kurir.messages import bounds
from kurir.store.inserts import insert_into

ListType = Literal["manual", "import", "sync_from_whatsapp", "group"]
AudienceStatus = Literal["not_checked", "valid", "invalid"]
CHUNK = 2_000
"""Maximum people in one transaction, so that other writes do not wait long."""

_encode = msgspec.json.Encoder().encode


class ContactList(msgspec.Struct, frozen=True):
    """A list; `key` is its public id, `audience` how many people are in it. Times are unix seconds."""

    id: int
    account_id: int
    key: str
    name: str
    type: ListType
    number_id: int | None
    group_id: str
    created_at: float
    updated_at: float
    audience: int


class Person(msgspec.Struct, frozen=True):
    """Somebody to add to a list; `phone` in digits, `custom_fields` by name."""

    phone: str
    name: str = ""
    custom_fields: dict[str, str] = {}


class Audience(msgspec.Struct, frozen=True):
    """Somebody in a list; `status` says whether the phone number was found on WhatsApp."""

    id: int
    key: str
    name: str
    phone: str
    status: AudienceStatus
    custom_fields: dict[str, str]
    created_at: float


class Added(msgspec.Struct, frozen=True):
    """The result of adding people: how many are new, and how many were merged into existing ones."""

    new: int
    merged: int


class NameTaken(ValueError):  # noqa: N818 - a state of the world, not a mistake
    """Another imported list has that name, by which imports find their list."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a table: `length` rows from `start`, filtered by `search`, ordered by (column, descending)."""

    start: int = 0
    length: int = 10
    search: str = ""
    order: tuple[tuple[str, bool], ...] = ()


class Page(msgspec.Struct, frozen=True):
    """Rows of a page; `total` counts the whole table, `matching` the rows that match the search."""

    rows: list[Any]
    total: int
    matching: int


_AUDIENCE_COUNT = (
    sa.select(sa.func.count())
    .select_from(audiences)
    .where(audiences.c.account_id == contacts.c.account_id, audiences.c.contact_id == contacts.c.id)
    .scalar_subquery()
)
_LIST_COLUMNS = [*(contacts.c[name] for name in ContactList.__struct_fields__[:-1]), _AUDIENCE_COUNT]
_AUDIENCE_COLUMNS = [audiences.c[name] for name in Audience.__struct_fields__]
LIST_ORDER: Mapping[str, sa.ColumnElement[Any]] = {
    "name": sa.func.lower(contacts.c.name),
    "type": contacts.c.type,
    "audience": _AUDIENCE_COUNT,
    "created_at": contacts.c.created_at,
    "updated_at": contacts.c.updated_at,
}
AUDIENCE_ORDER: Mapping[str, sa.ColumnElement[Any]] = {
    "name": sa.func.lower(audiences.c.name),
    "phone": audiences.c.phone,
    "status": audiences.c.status,
    "created_at": audiences.c.created_at,
}
"""The columns that a table can be ordered by."""


# -- lists ---------------------------------------------------------------------------------------------------------


def create_list(
    connection: Connection,
    account_id: int,
    name: str,
    type_: ListType = "manual",
    *,
    number_id: int | None = None,
    group_id: str = "",
    at: float,
) -> ContactList:
    """Creates a list, or returns the existing one: an import by its name, a mirror by what it mirrors.

    `number_id` and `group_id` identify the sender number or group it mirrors. A list created concurrently is returned,
    not created twice.
    """
    name = bounds.text(name, bounds.NAME)
    created = connection.execute(
        insert_into(connection, contacts)
        .values(
            account_id=account_id,
            key=opaque_id(),
            name=name,
            type=type_,
            number_id=number_id,
            group_id=group_id,
            created_at=at,
            updated_at=at,
        )
        .on_conflict_do_nothing()
        .returning(contacts.c.id)
    ).scalar()
    if created is not None:
        found = _first(connection, account_id, contacts.c.id == created)
        publish_change(connection, account_id, created, "created", at=at)
    elif number_id is None:
        found = imported(connection, account_id, name)
    else:
        found = mirror_of(connection, account_id, type_, number_id=number_id, group_id=group_id)
    assert found is not None, "it was made now or was there already"
    return found


def by_key(connection: Connection, account_id: int, key: str) -> ContactList | None:
    """The account's list with this public id, or None (also for another account's)."""
    return _first(connection, account_id, contacts.c.key == key)


def mirror_of(
    connection: Connection, account_id: int, type_: ListType, *, number_id: int, group_id: str = ""
) -> ContactList | None:
    """The list that mirrors a sender number's address book or one of its groups, or None."""
    return _first(
        connection,
        account_id,
        contacts.c.type == type_,
        contacts.c.number_id == number_id,
        contacts.c.group_id == group_id,
    )


def imported(connection: Connection, account_id: int, name: str) -> ContactList | None:
    """The list of this name that an import made, or None."""
    name = bounds.text(name, bounds.NAME)
    return _first(connection, account_id, contacts.c.type == "import", contacts.c.name == name)


# nothing calls it yet: for the pages of contact lists
def rename_list(connection: Connection, account_id: int, contact_id: int, name: str, *, at: float) -> None:
    """Renames the account's list. Raises NameTaken when another import has the name."""
    name = bounds.text(name, bounds.NAME)
    here = sa.and_(contacts.c.account_id == account_id, contacts.c.id == contact_id)
    other = contacts.alias("other")
    taken = sa.exists().where(
        other.c.account_id == account_id, other.c.type == "import", other.c.name == name, other.c.id != contact_id
    )
    renamed = connection.execute(
        contacts.update()
        .where(here, contacts.c.name != name, sa.or_(contacts.c.type != "import", ~taken))
        .values(updated_at=at, name=name)
    )
    if renamed.rowcount == 0:
        known = connection.execute(sa.select(contacts.c.name).where(here)).first()
        if known is None:
            raise KeyError(contact_id)
        if known.name != name:
            raise NameTaken(name)
        return
    publish_change(connection, account_id, contact_id, "renamed", at=at)


# nothing calls it yet: for the pages of contact lists
def delete_list(connection: Connection, account_id: int, contact_id: int, *, at: float) -> None:
    """Deletes the account's list and everybody in it."""
    publish_change(connection, account_id, contact_id, "deleted", at=at)
    connection.execute(
        audiences.delete().where(audiences.c.account_id == account_id, audiences.c.contact_id == contact_id)
    )
    connection.execute(contacts.delete().where(contacts.c.account_id == account_id, contacts.c.id == contact_id))


def lists(connection: Connection, account_id: int, query: Query) -> Page:
    """The account's lists (`ContactList`). `query.order` names keys of `LIST_ORDER`."""
    mine = contacts.c.account_id == account_id
    found = contacts.c.name.icontains(query.search, autoescape=True) if query.search else sa.true()
    rows = connection.execute(_paged(sa.select(*_LIST_COLUMNS).where(mine, found), query, LIST_ORDER, contacts.c.id))
    return Page(
        [ContactList(*row) for row in rows],
        _count(connection, contacts, mine),
        _count(connection, contacts, mine, found),
    )


# -- the people in a list ------------------------------------------------------------------------------------------


# nothing calls it yet: for the pages of contact lists
def add_audience(
    connection: Connection,
    account_id: int,
    contact_id: int,
    name: str,
    phone: str,
    *,
    at: float,
) -> Added:
    """Adds one person to the account's list. Raises KeyError when the account has no such list."""
    return add_audiences(connection, account_id, contact_id, [Person(phone, name)], at=at)


def add_audiences(
    connection: Connection, account_id: int, contact_id: int, people: Sequence[Person], *, at: float
) -> Added:
    """Adds people to the account's list, merging those that exist or occur twice.

    At most `CHUNK` people. Raises KeyError when the account has no such list.
    """
    # locks the list until the commit: of two concurrent adds, the second sees what the first one added
    _touch(connection, account_id, contact_id, at)
    rows = connection.execute(
        sa.select(audiences.c.phone, audiences.c.name, audiences.c.custom_fields).where(
            audiences.c.account_id == account_id,
            audiences.c.contact_id == contact_id,
            audiences.c.phone.in_({person.phone for person in people}),
        )
    )
    before = {row[0]: Person(row[0], row[1], msgspec.json.decode(row[2], type=dict[str, str])) for row in rows}
    after: dict[str, Person] = {}
    for person in people:
        after[person.phone] = merged(after.get(person.phone) or before.get(person.phone), person)
    new = [person for phone, person in after.items() if phone not in before]
    if new:
        connection.execute(
            audiences.insert(),
            [
                {
                    "account_id": account_id,
                    "contact_id": contact_id,
                    "key": opaque_id(),
                    "name": person.name,
                    "phone": person.phone,
                    "custom_fields": _encode(person.custom_fields).decode(),
                    "created_at": at,
                }
                for person in new
            ],
        )
    changed = [person for phone, person in after.items() if phone in before and person != before[phone]]
    for person in changed:
        connection.execute(
            _audience(account_id, contact_id, person.phone).values(
                name=person.name, custom_fields=_encode(person.custom_fields).decode()
            )
        )
    if new:
        publish_change(connection, account_id, contact_id, "people_added", people=len(new), at=at)
    if changed:
        publish_change(connection, account_id, contact_id, "people_changed", people=len(changed), at=at)
    return Added(len(new), len(people) - len(new))


def merged(before: Person | None, person: Person) -> Person:
    """The person as known `before`, with the additions and corrections of `person`."""
    if before is None:
        return person
    return Person(person.phone, person.name or before.name, before.custom_fields | person.custom_fields)


def keep_only(connection: Connection, account_id: int, contact_id: int, phones: Sequence[str], *, at: float) -> int:
    """Deletes everybody from the account's list whose phone is not in `phones`; returns how many."""
    here = sa.and_(audiences.c.account_id == account_id, audiences.c.contact_id == contact_id)
    gone = set(connection.scalars(sa.select(audiences.c.phone).where(here))) - set(phones)
    for phone in gone:
        connection.execute(audiences.delete().where(here, audiences.c.phone == phone))
    if gone:
        publish_change(connection, account_id, contact_id, "people_removed", people=len(gone), at=at)
    return len(gone)


def audience_page(connection: Connection, account_id: int, contact_id: int, query: Query) -> Page:
    """The people in the account's list (`Audience`). `query.order` names keys of `AUDIENCE_ORDER`."""
    here = sa.and_(audiences.c.account_id == account_id, audiences.c.contact_id == contact_id)
    found: sa.ColumnElement[bool] = sa.true()
    if query.search:
        # people look for 0812… and +62 812…, the digits are stored without trunk 0 and plus
        digits = query.search.lstrip("+0").replace(" ", "").replace("-", "")
        found = audiences.c.name.icontains(query.search, autoescape=True)
        if digits.isdigit():
            found = sa.or_(found, audiences.c.phone.contains(digits, autoescape=True))
    rows = connection.execute(
        _paged(sa.select(*_AUDIENCE_COLUMNS).where(here, found), query, AUDIENCE_ORDER, audiences.c.id)
    )
    return Page(
        [_audience_of(row) for row in rows],
        _count(connection, audiences, here),
        _count(connection, audiences, here, found),
    )


def audience_after(
    connection: Connection,
    account_id: int,
    contact_id: int,
    *,
    after_id: int = 0,
    limit: int = CHUNK,
    status: AudienceStatus | None = None,
) -> list[Audience]:
    """People of the account's list in insertion order, after the one with `after_id`, for iterating over a list."""
    query = sa.select(*_AUDIENCE_COLUMNS).where(
        audiences.c.account_id == account_id, audiences.c.contact_id == contact_id, audiences.c.id > after_id
    )
    if status is not None:
        query = query.where(audiences.c.status == status)
    return [_audience_of(row) for row in connection.execute(query.order_by(audiences.c.id).limit(limit))]


def set_statuses(
    connection: Connection, account_id: int, contact_id: int, statuses: Mapping[str, AudienceStatus], *, at: float
) -> None:
    """Stores the statuses of phone numbers of the account's list; those that are not in it are left out."""
    found = 0
    for phone, status in statuses.items():
        found += connection.execute(_audience(account_id, contact_id, phone).values(status=status)).rowcount
    if found:
        publish_change(connection, account_id, contact_id, "people_checked", people=found, at=at)


# nothing calls it yet: for the pages of contact lists
def status_counts(connection: Connection, account_id: int, contact_id: int) -> dict[AudienceStatus, int]:
    """How many people of the account's list have each status."""
    rows = connection.execute(
        sa.select(audiences.c.status, sa.func.count())
        .where(audiences.c.account_id == account_id, audiences.c.contact_id == contact_id)
        .group_by(audiences.c.status)
    )
    counts: dict[AudienceStatus, int] = {"not_checked": 0, "valid": 0, "invalid": 0}
    return counts | {row[0]: row[1] for row in rows}


# -- inside --------------------------------------------------------------------------------------------------------


def _first(connection: Connection, account_id: int, *conditions: sa.ColumnElement[bool]) -> ContactList | None:
    row = connection.execute(
        sa.select(*_LIST_COLUMNS).where(contacts.c.account_id == account_id, *conditions).order_by(contacts.c.id)
    ).first()
    return ContactList(*row) if row else None


def _touch(connection: Connection, account_id: int, contact_id: int, at: float, **values: Any) -> None:
    changed = connection.execute(
        contacts.update()
        .where(contacts.c.account_id == account_id, contacts.c.id == contact_id)
        .values(updated_at=at, **values)
    )
    if changed.rowcount == 0:
        raise KeyError(contact_id)


def _audience(account_id: int, contact_id: int, phone: str) -> sa.Update:
    return audiences.update().where(
        audiences.c.account_id == account_id, audiences.c.contact_id == contact_id, audiences.c.phone == phone
    )


def _audience_of(row: Any) -> Audience:
    audience_id, key, name, phone, status, fields, created_at = row
    return Audience(audience_id, key, name, phone, status, msgspec.json.decode(fields, type=dict[str, str]), created_at)


def _paged(
    select: sa.Select[*tuple[Any, ...]],
    query: Query,
    columns: Mapping[str, sa.ColumnElement[Any]],
    tie: sa.ColumnElement[Any],
) -> sa.Select[*tuple[Any, ...]]:
    order = [columns[name].desc() if descending else columns[name].asc() for name, descending in query.order]
    # equal values need a secondary order, or pages would overlap
    last = tie.desc() if query.order and query.order[0][1] else tie.asc()
    return select.order_by(*order, last).offset(query.start).limit(query.length)


def _count(connection: Connection, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(table).where(*conditions)) or 0
