"""Contact lists and the people in them: make a list, import a file, look at lists and people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import Connection

from kurir.accounts.accounts import Account
from kurir.contacts import contacts
from kurir.contacts.contacts import ContactList, Page, Person, Query
from kurir.contacts.imports import importing
from kurir.contacts.imports.importing import ImportReport
from kurir.kit.clock import Clock
from kurir.reasons.administration import NO_CONTACT_LIST
from kurir.services.errors import NotFound, NotPossible
from kurir.store.database import LONG_WORK, Database


class Contacts:
    """The contact lists of all accounts. Raises DatabaseUnavailable throughout."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, account_id: int, name: str, people: Sequence[Person] = ()) -> ContactList:
        """Creates a list of the account with these people in it.

        It is stored with the first `CHUNK` of them; the others follow in further transactions, so an error may leave a
        list that lacks some.
        """
        now = self._clock()
        first, rest = people[: contacts.CHUNK], people[contacts.CHUNK :]

        def work(connection: Connection) -> ContactList:
            made = contacts.create_list(connection, account_id, name, at=now)
            if first:
                contacts.add_audiences(connection, account_id, made.id, first, at=now)
            return made

        made = await self._database.write(work, timeout=LONG_WORK)
        for start in range(0, len(rest), contacts.CHUNK):
            chunk = rest[start : start + contacts.CHUNK]
            await self._database.write(
                lambda c, some=chunk: contacts.add_audiences(c, account_id, made.id, some, at=now), timeout=LONG_WORK
            )
        return await self.get(account_id, made.key)

    async def import_file(
        self, account: Account, path: Path, list_name: str = "", progress: Callable[[int], object] | None = None
    ) -> ImportReport:
        """Imports a CSV or XLSX file into the account's list of that name (the file's when left out).

        `progress` is called with the number of rows done. Raises NotPossible: nothing was stored.
        """
        try:
            return await importing.import_file(self._database, account, path, list_name or path.stem, progress)
        except importing.ImportRefused as error:
            raise NotPossible(error.reason, "file") from error

    async def lists(self, account_id: int, query: Query) -> Page:
        """A page of the account's lists (`ContactList`)."""
        return await self._database.read(lambda c: contacts.lists(c, account_id, query), of=account_id, pool="lists")

    async def get(self, account_id: int, key: str) -> ContactList:
        """The account's list with this public id. Raises NotFound."""
        found = await self._database.read(lambda c: contacts.by_key(c, account_id, key), of=account_id)
        if found is None:
            raise NotFound("contact_id", NO_CONTACT_LIST())
        return found

    async def people(self, account_id: int, key: str, query: Query) -> Page:
        """A page of the people (`Audience`) in the account's list. Raises NotFound."""
        found = await self.get(account_id, key)
        return await self._database.read(
            lambda c: contacts.audience_page(c, account_id, found.id, query), of=account_id, pool="lists"
        )
