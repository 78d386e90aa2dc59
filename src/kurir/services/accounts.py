"""Accounts and their API keys: create, list, change, extend the package, make and revoke keys."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta

from sqlalchemy import Connection

from kurir.accounts import accounts, api_keys, members
from kurir.accounts.accounts import Account, AccountError
from kurir.kit.clock import Clock
from kurir.kit.sealing import Sealing
from kurir.messages import bounds
from kurir.reasons import administration as refusals
from kurir.services.errors import Invalid, NotFound
from kurir.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAccount:
    """What an account is made of; `until` is the last day of its package (None: a year from now)."""

    email: str
    name: str = ""
    package: str = "Enterprise"
    until: date | None = None
    timezone: str = "Asia/Jakarta"
    language: str = "id"
    country_code: str = "62"


@dataclass(frozen=True, slots=True)
class CreatedAccount:
    """A new account with its first key and its owner's password, which are shown only now. Never log it."""

    account: Account
    api_key: str = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountChange:
    """What to change of an account; None leaves it as it is. `until`: the new last day, in the account's time zone."""

    name: str | None = None
    package: str | None = None
    until: date | None = None
    timezone: str | None = None
    language: str | None = None
    country_code: str | None = None
    doubt: str | None = None
    repeat_guard_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class KeyLine:
    """A live API key in a list; `made_at` in unix seconds."""

    last4: str
    label: str
    made_at: float


class Accounts:
    """The accounts of the gateway: for the operator. Raises DatabaseUnavailable throughout."""

    def __init__(self, database: Database, sealing: Sealing, clock: Clock) -> None:
        self._database = database
        self._sealing = sealing
        self._clock = clock

    async def language(self, account_id: int) -> str:
        """The account's language, `id` for an account that is gone."""
        return await self._database.read(lambda c: accounts.language(c, account_id), of=account_id)

    async def list(self) -> list[Account]:
        """All accounts, oldest first."""
        return await self._database.read(accounts.list_all, pool="lists")

    async def get(self, account_id: int) -> Account:
        """The account. Raises NotFound."""
        return await self._database.read(lambda c: _get(c, account_id), of=account_id)

    async def by_email(self, email: str) -> Account:
        """The account of that e-mail address, for the operator: its NotFound names all addresses."""
        found = await self._database.read(lambda c: accounts.by_email(c, email))
        if found is None:
            known = ", ".join(account.email for account in await self.list()) or refusals.NONE_YET
            raise NotFound("email", refusals.NO_ACCOUNT_OF_EMAIL(email=email, known=known))
        return found

    async def create(self, wanted: NewAccount) -> CreatedAccount:
        """A new account with its first API key and an owner who can sign in. Raises Invalid."""
        password = secrets.token_urlsafe(12)
        password_hash = await asyncio.to_thread(members.hashed, password)
        now = self._clock()
        until = _end_of(wanted.until, wanted.timezone) if wanted.until is not None else None

        def work(connection: Connection) -> tuple[Account, str]:
            account = accounts.create(
                connection,
                name=bounds.text(wanted.name, bounds.NAME),
                email=wanted.email,
                package_name=wanted.package,
                package_until=until,
                timezone=wanted.timezone,
                language=wanted.language,
                country_code=wanted.country_code,
                clock=lambda: now,
            )
            members.create(connection, account.id, account.email, password_hash, clock=lambda: now)
            return account, api_keys.create(connection, self._sealing, account.id, "first key", clock=lambda: now)

        try:
            account, key = await self._database.write(work)
        except AccountError as error:
            raise Invalid(error.field, error.reason) from error
        return CreatedAccount(account, key, password)

    async def change(self, account_id: int, change: AccountChange) -> Account:
        """Changes what is given; running gateways follow within seconds. Raises NotFound and Invalid."""
        before = await self.get(account_id)
        zone = change.timezone or before.timezone
        until = _end_of(change.until, zone) if change.until is not None else None

        def work(connection: Connection) -> Account:
            accounts.change(
                connection,
                account_id,
                name=None if change.name is None else bounds.text(change.name, bounds.NAME),
                package_name=change.package,
                package_until=until,
                timezone=change.timezone,
                language=change.language,
                country_code=change.country_code,
                doubt=change.doubt,
                repeat_guard_seconds=change.repeat_guard_seconds,
            )
            return _get(connection, account_id)

        try:
            return await self._database.write(work)
        except AccountError as error:
            raise Invalid(error.field, error.reason) from error

    # -- keys ------------------------------------------------------------------------------------------------------

    async def add_key(self, account_id: int, label: str = "") -> str:
        """A further API key of the account: the only time that its text is shown. Raises NotFound."""
        label, now = bounds.text(label, bounds.NAME), self._clock()

        def work(connection: Connection) -> str:
            return api_keys.create(connection, self._sealing, _get(connection, account_id).id, label, clock=lambda: now)

        return await self._database.write(work)

    async def keys(self, account_id: int) -> list[KeyLine]:
        """The account's live keys, oldest first."""
        found = await self._database.read(lambda c: api_keys.of_account(c, account_id), of=account_id)
        return [KeyLine(*row) for row in found]

    async def revoke_key(self, account_id: int, last4: str) -> int:
        """Ends the account's live keys that end in these four characters; how many. Raises NotFound when none does."""
        now = self._clock()
        count = await self._database.write(lambda c: api_keys.revoke(c, account_id, last4[-4:], clock=lambda: now))
        if not count:
            raise NotFound("last4", refusals.NO_KEY(last4=last4))
        return count


def _get(connection: Connection, account_id: int) -> Account:
    account = accounts.by_id(connection, account_id)
    if account is None:
        raise NotFound("account_id", refusals.NO_ACCOUNT())
    return account


def _end_of(day: date, timezone: str) -> float:
    """The end of a day in a time zone, as unix seconds. Raises Invalid."""
    try:
        return datetime.combine(day + timedelta(days=1), time(), accounts.zone_of(timezone)).timestamp()
    except AccountError as error:
        raise Invalid(error.field, error.reason) from error
    except (OverflowError, ValueError) as error:
        raise Invalid("until", refusals.A_DAY()) from error
