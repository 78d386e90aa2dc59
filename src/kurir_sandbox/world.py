"""The world of the sandbox: people, groups, address books and official numbers, kept in `<data>/world.db`.

Phone numbers and LIDs are digit strings. A person whose `on_whatsapp` is false has a phone but no WhatsApp; a
number without a person does not exist at all. `World.state` keeps what the wires must remember over a restart.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Role = Literal["participant", "admin", "superadmin"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS people (
    phone TEXT PRIMARY KEY, lid TEXT NOT NULL UNIQUE, name TEXT NOT NULL, on_whatsapp INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS groups (
    id TEXT PRIMARY KEY, subject TEXT NOT NULL, owner TEXT NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS members (
    group_id TEXT NOT NULL, phone TEXT NOT NULL, role TEXT NOT NULL, joined INTEGER PRIMARY KEY AUTOINCREMENT,
    UNIQUE (group_id, phone));
CREATE TABLE IF NOT EXISTS contacts (
    owner TEXT NOT NULL, phone TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (owner, phone)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS businesses (
    phone_number_id TEXT PRIMARY KEY, phone TEXT NOT NULL UNIQUE, name TEXT NOT NULL, waba_id TEXT NOT NULL,
    app_id TEXT NOT NULL, app_secret TEXT NOT NULL, access_token TEXT NOT NULL, verify_token TEXT NOT NULL,
    callback_url TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (
    space TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (space, key)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Person:
    """Someone with a phone. `phone` and `lid` (the number-hiding identity) are digits."""

    phone: str
    lid: str
    name: str
    on_whatsapp: bool


@dataclass(frozen=True, slots=True)
class Member:
    """A person's place in a group."""

    phone: str
    role: Role


@dataclass(frozen=True, slots=True)
class Group:
    """A group chat; `id` is bare ("120363…", without "@g.us"), `created` in unix seconds."""

    id: str
    subject: str
    owner: str
    created: int
    members: list[Member]

    def role_of(self, phone: str) -> Role | None:
        """The role of the member `phone`, or None when it is no member."""
        return next((member.role for member in self.members if member.phone == phone), None)


@dataclass(frozen=True, slots=True)
class Business:
    """An official number on the Cloud API, with the app that owns it and where its callbacks go."""

    phone: str
    name: str
    phone_number_id: str
    waba_id: str
    app_id: str
    app_secret: str
    access_token: str
    verify_token: str
    callback_url: str | None


class StateStore:
    """Bytes by (space, key), each change its own commit: sessions, devices, queues and ports of the wires."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def get(self, space: str, key: str) -> bytes | None:
        """The value under `key` in `space`, or None."""
        row = self._db.execute("SELECT value FROM state WHERE space = ? AND key = ?", (space, key)).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, space: str, key: str, value: bytes) -> None:
        """Store `value`, replacing what was there; committed when this returns."""
        self.put_many([(space, key, value)])

    def put_many(self, rows: Iterable[tuple[str, str, bytes]]) -> None:
        """Store all rows (space, key, value) in one commit."""
        with _transaction(self._db):
            self._db.executemany("INSERT OR REPLACE INTO state (space, key, value) VALUES (?, ?, ?)", rows)

    def delete(self, space: str, key: str) -> None:
        """Forget `key`; nothing happens when it is not there."""
        self._db.execute("DELETE FROM state WHERE space = ? AND key = ?", (space, key))

    def items(self, space: str) -> list[tuple[str, bytes]]:
        """Every (key, value) of `space`, by key."""
        rows = self._db.execute("SELECT key, value FROM state WHERE space = ? ORDER BY key", (space,))
        return [(key, bytes(value)) for key, value in rows]


class World:
    """Who exists. Every change is committed when the call returns; reads always see the latest."""

    def __init__(self, data: Path) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(data / "world.db", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)
        self.state = StateStore(self._db)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def clear(self, keep_spaces: Iterable[str] = ()) -> None:
        """Forget everyone and everything, except the state in `keep_spaces` (ports, certificates)."""
        kept = [(space, key, value) for space in keep_spaces for key, value in self.state.items(space)]
        with _transaction(self._db):
            for table in ("people", "groups", "members", "contacts", "businesses", "state"):
                self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
            self._db.executemany("INSERT INTO state (space, key, value) VALUES (?, ?, ?)", kept)

    def people(self) -> list[Person]:
        """Everyone, by phone number."""
        return [_person(row) for row in self._db.execute(f"{_PEOPLE} ORDER BY phone")]

    def person(self, phone: str) -> Person | None:
        """The person with this phone number, on WhatsApp or not."""
        row = self._db.execute(f"{_PEOPLE} WHERE phone = ?", (phone,)).fetchone()
        return None if row is None else _person(row)

    def person_by_lid(self, lid: str) -> Person | None:
        """The person with this LID."""
        row = self._db.execute(f"{_PEOPLE} WHERE lid = ?", (lid,)).fetchone()
        return None if row is None else _person(row)

    def add_person(self, phone: str, name: str, on_whatsapp: bool = True, lid: str | None = None) -> Person:
        """Add or change a person. Without `lid` a known person keeps theirs, a new one gets a fresh one."""
        known = self.person(phone)
        lid = lid or (known.lid if known else str(secrets.randbelow(9 * 10**14) + 10**14))
        person = Person(phone, lid, name, on_whatsapp)
        self._db.execute(
            "INSERT OR REPLACE INTO people (phone, lid, name, on_whatsapp) VALUES (?, ?, ?, ?)",
            (phone, lid, name, int(on_whatsapp)),
        )
        return person

    def groups(self) -> list[Group]:
        """Every group with its members, by id."""
        return [self._group(row) for row in self._db.execute(f"{_GROUPS} ORDER BY id").fetchall()]

    def group(self, group_id: str) -> Group | None:
        """The group with this bare id."""
        row = self._db.execute(f"{_GROUPS} WHERE id = ?", (group_id,)).fetchone()
        return None if row is None else self._group(row)

    def add_group(self, subject: str, owner: str, members: Iterable[Member] = (), group_id: str | None = None) -> Group:
        """Create a group. The owner becomes superadmin; `members` are the others, in order."""
        created = int(time.time())
        group_id = group_id or f"120363{secrets.randbelow(10**12):012d}"
        roles = {member.phone: member.role for member in members if member.phone != owner}
        with _transaction(self._db):
            self._db.execute(
                "INSERT INTO groups (id, subject, owner, created) VALUES (?, ?, ?, ?)",
                (group_id, subject, owner, created),
            )
            self._db.executemany(
                "INSERT INTO members (group_id, phone, role) VALUES (?, ?, ?)",
                [(group_id, phone, role) for phone, role in {owner: "superadmin", **roles}.items()],
            )
        group = self.group(group_id)
        assert group is not None
        return group

    def set_subject(self, group_id: str, subject: str) -> None:
        """Rename a group."""
        self._db.execute("UPDATE groups SET subject = ? WHERE id = ?", (subject, group_id))

    def set_member(self, group_id: str, phone: str, role: Role = "participant") -> None:
        """Add `phone` to a group, or change its role there."""
        self._db.execute(
            "INSERT INTO members (group_id, phone, role) VALUES (?, ?, ?)"
            " ON CONFLICT (group_id, phone) DO UPDATE SET role = excluded.role",
            (group_id, phone, role),
        )

    def remove_member(self, group_id: str, phone: str) -> None:
        """Take `phone` out of a group; nothing happens when it is not in."""
        self._db.execute("DELETE FROM members WHERE group_id = ? AND phone = ?", (group_id, phone))

    def contacts_of(self, phone: str) -> dict[str, str]:
        """The address book of the person `phone`: phone number → name."""
        rows = self._db.execute("SELECT phone, name FROM contacts WHERE owner = ? ORDER BY phone", (phone,))
        return dict(rows.fetchall())

    def set_contact(self, owner: str, phone: str, name: str) -> None:
        """Write `phone` down as `name` in the owner's address book; an empty name removes it."""
        if name:
            self._db.execute(
                "INSERT OR REPLACE INTO contacts (owner, phone, name) VALUES (?, ?, ?)", (owner, phone, name)
            )
        else:
            self._db.execute("DELETE FROM contacts WHERE owner = ? AND phone = ?", (owner, phone))

    def businesses(self) -> list[Business]:
        """Every official number, by phone-number id."""
        return [Business(*row) for row in self._db.execute(f"{_BUSINESSES} ORDER BY phone_number_id")]

    def business(self, phone_number_id: str) -> Business | None:
        """The official number with this phone-number id."""
        row = self._db.execute(f"{_BUSINESSES} WHERE phone_number_id = ?", (phone_number_id,)).fetchone()
        return None if row is None else Business(*row)

    def business_by_phone(self, phone: str) -> Business | None:
        """The official number with this phone number."""
        row = self._db.execute(f"{_BUSINESSES} WHERE phone = ?", (phone,)).fetchone()
        return None if row is None else Business(*row)

    def add_business(self, business: Business) -> Business:
        """Add an official number, or replace the one with the same phone-number id.

        Raises ValueError when another official number already has this phone number.
        """
        holder = self.business_by_phone(business.phone)
        if holder is not None and holder.phone_number_id != business.phone_number_id:
            raise ValueError(f"phone {business.phone} already belongs to number {holder.phone_number_id}")
        self._db.execute(
            "INSERT OR REPLACE INTO businesses (phone, name, phone_number_id, waba_id, app_id, app_secret,"
            " access_token, verify_token, callback_url) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                business.phone,
                business.name,
                business.phone_number_id,
                business.waba_id,
                business.app_id,
                business.app_secret,
                business.access_token,
                business.verify_token,
                business.callback_url,
            ),
        )
        return business

    def _group(self, row: tuple[str, str, str, int]) -> Group:
        members = self._db.execute("SELECT phone, role FROM members WHERE group_id = ? ORDER BY joined", (row[0],))
        return Group(*row, members=[Member(phone, role) for phone, role in members])


_PEOPLE = "SELECT phone, lid, name, on_whatsapp FROM people"
_GROUPS = "SELECT id, subject, owner, created FROM groups"
_BUSINESSES = (
    "SELECT phone, name, phone_number_id, waba_id, app_id, app_secret, access_token, verify_token,"
    " callback_url FROM businesses"
)


def _person(row: tuple[str, str, str, int]) -> Person:
    phone, lid, name, on_whatsapp = row
    return Person(phone, lid, name, bool(on_whatsapp))


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Generator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
