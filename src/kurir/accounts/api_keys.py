"""API keys: created once, shown once, stored as a keyed hash.

A key is 40 letters and digits (238 bits). It is looked up by its hash, so no comparison reveals how much of a guess was
right.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.accounts.tables import api_keys
from kurir.kit.clock import Clock, system_clock
from kurir.kit.ids import opaque_id
from kurir.kit.sealing import Sealing
from kurir.store.statements import Statement

_LENGTH = 40
_ACCOUNT_OF = Statement("SELECT account_id FROM api_keys WHERE key_hash = :hash AND revoked_at IS NULL")


def create(
    connection: Connection, sealing: Sealing, account_id: int, label: str = "", *, clock: Clock = system_clock
) -> str:
    """Creates a key for the account and returns its text, which is not stored."""
    key = opaque_id(_LENGTH)
    connection.execute(
        api_keys.insert().values(
            account_id=account_id,
            key_hash=hash_of(sealing, key),
            last4=key[-4:],
            label=label,
            created_at=clock(),
        )
    )
    return key


def account_of(connection: Connection, key_hash: str) -> int | None:
    """The account whose live key has this hash, or None."""
    return _ACCOUNT_OF.scalar(connection, hash=key_hash)


def revoke(connection: Connection, account_id: int, last4: str, *, clock: Clock = system_clock) -> int:
    """Revokes the account's live keys that end in `last4`; returns how many."""
    result = connection.execute(
        api_keys.update()
        .where(api_keys.c.account_id == account_id, api_keys.c.last4 == last4, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=clock())
    )
    return result.rowcount


def of_account(connection: Connection, account_id: int) -> list[tuple[str, str, float]]:
    """The account's live keys as (last four, label, created at)."""
    rows = connection.execute(
        sa.select(api_keys.c.last4, api_keys.c.label, api_keys.c.created_at)
        .where(api_keys.c.account_id == account_id, api_keys.c.revoked_at.is_(None))
        .order_by(api_keys.c.id)
    )
    return [(row[0], row[1], row[2]) for row in rows]


def hash_of(sealing: Sealing, key: str) -> str:
    """The hash under which a key is stored."""
    return sealing.hash(key, "api_key")
