"""Broadcasts: one content to one or many recipients. A broadcast groups messages, which are processed on their own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.broadcasts.tables import broadcasts
from kurir.kit.ids import first_id_at
from kurir.messages.addresses import AddressError, CountryCodeError, parse_phone
from kurir.outbox.tables import messages
from kurir.store.chunked_deletes import removed
from kurir.store.database import Database

MOST_RECIPIENTS = 5_000
"""Maximum recipients of one request: its numbers are parsed on the event loop while other requests wait."""
_NAMED = 5


class RecipientsError(ValueError):
    """Some recipients cannot be phone numbers; `wrong` holds the first few as given."""

    def __init__(self, wrong: list[str], count: int) -> None:
        super().__init__(f"{count} of the recipients cannot be phone numbers: {', '.join(wrong)}")
        self.wrong = wrong
        self.count = count


class Broadcast(msgspec.Struct, frozen=True):
    """A broadcast; `key` is the wire's `bc_id`, `recipients` the number of recipients, `created_at` unix seconds."""

    id: int
    account_id: int
    number_id: int
    key: str
    template_name: str
    recipients: int
    created_at: float


COLUMNS = [broadcasts.c[name] for name in Broadcast.__struct_fields__]


def recipients_of(written: Iterable[str], country_code: str, default_country_code: str) -> list[str]:
    """Phone numbers in digits, without duplicates, in the order of first appearance.

    Raises RecipientsError naming those that cannot be phone numbers, CountryCodeError for an invalid country code.
    """
    found: dict[str, None] = {}
    wrong: list[str] = []
    for text in written:
        try:
            found[parse_phone(text, country_code, default_country_code)] = None
        except CountryCodeError:
            raise
        except AddressError:
            wrong.append(text)
    if wrong:
        raise RecipientsError([text[:30] for text in wrong[:_NAMED]], len(wrong))
    return list(found)


# -- for the pages of broadcasts, which are still to come --------------------------------------------------------------


def by_key(connection: Connection, account_id: int, key: str) -> Broadcast | None:
    """The account's broadcast with that `bc_id`, or None."""
    row = connection.execute(
        sa.select(broadcasts).where(broadcasts.c.account_id == account_id, broadcasts.c.key == key)
    ).first()
    return _broadcast(row) if row else None


def latest(connection: Connection, account_id: int, limit: int = 50) -> list[Broadcast]:
    """The account's broadcasts, newest first."""
    rows = connection.execute(
        sa.select(broadcasts)
        .where(broadcasts.c.account_id == account_id)
        .order_by(broadcasts.c.created_at.desc(), broadcasts.c.id.desc())
        .limit(limit)
    )
    return [_broadcast(row) for row in rows]


class Counts(NamedTuple):
    """Number of a broadcast's messages in each state (those without messages are left out), and how many of them are in
    doubt but may still go out once more without a person."""

    by_state: dict[str, int]
    doubted: int


def progress(connection: Connection, account_id: int, broadcast_id: int, now: float) -> Counts:
    """How far its messages have come. `now` in unix seconds."""
    again = sa.and_(messages.c.doubt_until.is_not(None), messages.c.expires_at > now)
    rows = connection.execute(
        sa.select(messages.c.state, sa.func.count(), sa.func.sum(sa.case((again, 1), else_=0)))
        .where(messages.c.account_id == account_id, messages.c.broadcast_id == broadcast_id)
        .group_by(messages.c.state)
    ).all()
    return Counts({row[0]: row[1] for row in rows}, sum(row[2] for row in rows))


# -- retention ---------------------------------------------------------------------------------------------------------


async def forget(database: Database, before: float) -> int:
    """Deletes broadcasts older than that unix time without any message left; returns how many."""
    has_messages = sa.exists().where(messages.c.broadcast_id == broadcasts.c.id)

    def find(connection: Connection, cursor: int | None, limit: int) -> tuple[list[int], int | None]:
        rows = connection.execute(
            sa.select(broadcasts.c.id)
            .where(broadcasts.c.id > (cursor or 0), broadcasts.c.id < first_id_at(before))
            .where(broadcasts.c.created_at < before, ~has_messages)
            .order_by(broadcasts.c.id)
            .limit(limit)
        )
        ids = list(rows.scalars())
        return ids, ids[-1] if len(ids) == limit else None

    def remove(connection: Connection, ids: list[int]) -> int:
        return connection.execute(sa.delete(broadcasts).where(broadcasts.c.id.in_(ids), ~has_messages)).rowcount

    return sum([count async for count in removed(database, find, remove)])


def _broadcast(row: Any) -> Broadcast:
    return Broadcast(*(getattr(row, name) for name in Broadcast.__struct_fields__))
