"""The quarantine in the database: list, export, discard. Replays are in `replays`."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from kurir.accounts import accounts
from kurir.numbers import numbers
from kurir.quarantine import quarantine
from kurir.quarantine.quarantine import Entry, Line
from kurir.reasons.administration import RANGE
from kurir.reasons.replays import NO_ENTRY
from kurir.services.errors import Invalid, NotFound
from kurir.store.database import Database

MOST = 10_000
"""Maximum entries of one list."""


@dataclass(frozen=True, slots=True)
class NamedLine:
    """An entry of a list with its account's e-mail address and its number's key ("" when they are not known)."""

    line: Line
    email: str
    number_key: str


class Quarantine:
    """The quarantined items of all accounts: for the operator. Raises DatabaseUnavailable throughout."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, account_id: int | None = None, *, before: int = 0, limit: int = 100) -> list[NamedLine]:
        """Entries, newest first, of one account or (None) of all; `before` (an entry's id) begins the next page.

        Raises Invalid.
        """
        if not 1 <= limit <= MOST:
            raise Invalid("limit", RANGE(least=1, most=MOST))

        def work(connection: Connection) -> list[NamedLine]:
            found = quarantine.lines(connection, account_id, before=before, limit=limit)
            owners = {one.id: one.email for one in accounts.list_all(connection)}
            known = {line.account_id for line in found} & owners.keys()
            keys = {number.id: number.key for owner in known for number in numbers.of_account(connection, owner)}
            return [NamedLine(line, owners.get(line.account_id, ""), keys.get(line.number_id, "")) for line in found]

        return await self._database.read(work, pool="lists")

    async def get_of_any(self, entry_id: int) -> Entry:
        """One entry with its payload, which is personal: it holds a message. Raises NotFound."""
        entry = await self._database.read(lambda c: quarantine.by_id(c, entry_id))
        if entry is None:
            raise NotFound("id", NO_ENTRY())
        return entry

    async def discard_of_any(self, entry_id: int) -> Entry:
        """Removes an entry for good; returns it. Raises NotFound."""
        entry = await self.get_of_any(entry_id)
        await self._database.write(lambda c: quarantine.remove(c, entry.id))
        return entry
