"""Accounts (tenants): their package and its dates, their language, time zone and country."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.accounts.tables import accounts
from kurir.kit.clock import Clock, system_clock
from kurir.reasons import Reason, ReasonedError, sentence
from kurir.reasons import administration as refusals
from kurir.store.inserts import insert_into
from kurir.store.statements import Statement

LANGUAGES = ("id", "en")
DoubtSetting = Literal["hold", "resend"]
REPEAT_GUARD_MOST = 86_400.0
_YEAR = 365 * 86_400


class AccountError(ReasonedError):
    """An account cannot be created or changed this way: the field, and what it is expected to be."""

    def __init__(self, field: str, reason: Reason) -> None:
        super().__init__(reason)
        self.field = field


class Account(msgspec.Struct, frozen=True):
    """A tenant. Times are unix seconds; `country_code` is the default for recipients' numbers.

    `doubt`: what happens to a message of which it is unknown whether it left (see `outbox.doubt`);
    `repeat_guard_seconds`: how long the same content to the same recipient counts as a client's retry (0: never).
    """

    id: int
    name: str
    email: str
    package_name: str
    package_from: float
    package_until: float
    timezone: str
    language: str
    country_code: str
    doubt: DoubtSetting
    repeat_guard_seconds: float
    created_at: float

    def zone(self) -> ZoneInfo:
        """The account's time zone."""
        return ZoneInfo(self.timezone)

    def local(self, at: float) -> datetime:
        """Converts a time to the account's time zone."""
        return datetime.fromtimestamp(at, self.zone())

    def package_active(self, now: float) -> bool:
        """Whether the package is valid at `now`; the last day counts in full."""
        return self.package_from <= now < self.package_until


_COLUMNS = [accounts.c[name] for name in Account.__struct_fields__]
_BY_ID = Statement(f"SELECT {', '.join(Account.__struct_fields__)} FROM accounts WHERE id = :id")  # noqa: S608
_LANGUAGE = Statement("SELECT language FROM accounts WHERE id = :id")


def create(
    connection: Connection,
    *,
    name: str,
    email: str,
    package_name: str = "Enterprise",
    package_from: float | None = None,
    package_until: float | None = None,
    timezone: str = "Asia/Jakarta",
    language: str = "id",
    country_code: str = "62",
    clock: Clock = system_clock,
) -> Account:
    """Creates an account, by default with a package of one year from now. Raises AccountError."""
    now = clock()
    email = email.strip().lower()
    if "@" not in email:
        raise AccountError("email", refusals.ACCOUNT_EMAIL())
    _check(language=language, timezone=timezone, country_code=country_code)
    created = connection.execute(
        insert_into(connection, accounts)
        .values(
            name=name or email,
            email=email,
            package_name=package_name,
            package_from=now if package_from is None else package_from,
            package_until=now + _YEAR if package_until is None else package_until,
            timezone=timezone,
            language=language,
            country_code=country_code,
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=[accounts.c.email])
        .returning(*_COLUMNS)
    ).first()
    if created is None:
        raise AccountError("email", refusals.ACCOUNT_EXISTS(email=email))
    return Account(*created)


def change(
    connection: Connection,
    account_id: int,
    *,
    name: str | None = None,
    package_name: str | None = None,
    package_until: float | None = None,
    timezone: str | None = None,
    language: str | None = None,
    country_code: str | None = None,
    doubt: str | None = None,
    repeat_guard_seconds: float | None = None,
) -> None:
    """Changes the settings that are given. Raises AccountError."""
    if name is not None and not name.strip():
        raise AccountError("name", refusals.SOME_TEXT())
    _check(language=language, timezone=timezone, country_code=country_code)
    if doubt is not None and doubt not in get_args(DoubtSetting):
        raise AccountError("doubt", refusals.ONE_OF(words=", ".join(get_args(DoubtSetting))))
    if repeat_guard_seconds is not None and not 0 <= repeat_guard_seconds <= REPEAT_GUARD_MOST:
        raise AccountError("repeat_guard_seconds", refusals.ACCOUNT_REPEAT_GUARD(most=REPEAT_GUARD_MOST))
    given = {
        "name": name,
        "package_name": package_name,
        "package_until": package_until,
        "timezone": timezone,
        "language": language,
        "country_code": country_code,
        "doubt": doubt,
        "repeat_guard_seconds": repeat_guard_seconds,
    }
    values = {field: value for field, value in given.items() if value is not None}
    if values:
        connection.execute(accounts.update().where(accounts.c.id == account_id).values(**values))


def zone_of(timezone: str) -> ZoneInfo:
    """The time zone of that name. Raises AccountError."""
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise AccountError("timezone", refusals.ACCOUNT_TIMEZONE()) from error


def _check(*, language: str | None, timezone: str | None, country_code: str | None) -> None:
    if language is not None and language not in LANGUAGES:
        raise AccountError("language", refusals.ONE_OF(words=", ".join(LANGUAGES)))
    if timezone is not None:
        zone_of(timezone)
    if country_code is not None and not (country_code.isascii() and country_code.isdigit()):
        raise AccountError("country_code", refusals.ACCOUNT_COUNTRY())


def by_id(connection: Connection, account_id: int) -> Account | None:
    """The account, or None."""
    row = _BY_ID.first(connection, id=account_id)
    return Account(*row) if row else None


def language(connection: Connection, account_id: int) -> str:
    """The account's language, `id` for an account that is gone."""
    found = _LANGUAGE.scalar(connection, id=account_id)
    return found or "id"


def sentence_for(connection: Connection, account_id: int, reason: Reason) -> str:
    """The reason's sentence in the account's language; asks the database only when there is a reason."""
    return sentence(reason, language(connection, account_id)) if reason else ""


def by_email(connection: Connection, email: str) -> Account | None:
    """The account with that e-mail address, or None."""
    row = connection.execute(sa.select(*_COLUMNS).where(accounts.c.email == email.strip().lower())).first()
    return Account(*row) if row else None


def list_all(connection: Connection) -> list[Account]:
    """All accounts, oldest first; for the operator only."""
    return [Account(*row) for row in connection.execute(sa.select(*_COLUMNS).order_by(accounts.c.id))]
