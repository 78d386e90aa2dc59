"""Members: people who sign in for an account. Passwords are Argon2id hashes (argon2-cffi's defaults)."""

from __future__ import annotations

import functools
from typing import NewType

import msgspec
import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error
from sqlalchemy import Connection

from kurir.accounts.accounts import AccountError
from kurir.accounts.tables import members
from kurir.kit.clock import Clock, system_clock
from kurir.reasons.administration import MEMBER_EXISTS
from kurir.store.inserts import insert_into

_hasher = PasswordHasher()

PasswordHash = NewType("PasswordHash", str)
"""The result of `hashed`, a separate type so that no password is stored in plain text."""


class Member(msgspec.Struct, frozen=True):
    """A person of an account; `role` is `owner` for now."""

    id: int
    account_id: int
    email: str
    role: str


def create(
    connection: Connection,
    account_id: int,
    email: str,
    password_hash: PasswordHash,
    role: str = "owner",
    *,
    clock: Clock = system_clock,
) -> Member:
    """Creates a member of the account. Raises AccountError when the address is already in use."""
    email = email.strip().lower()
    created = connection.execute(
        insert_into(connection, members)
        .values(
            account_id=account_id,
            email=email,
            password_hash=password_hash,
            role=role,
            created_at=clock(),
        )
        .on_conflict_do_nothing(index_elements=[members.c.email])
        .returning(members.c.id)
    ).scalar()
    if created is None:
        raise AccountError("email", MEMBER_EXISTS(email=email))
    return Member(created, account_id, email, role)


def hashed(password: str) -> PasswordHash:
    """Hashes a password for storage.

    It takes about 0.1 s of two processors and 64 MiB: never call it on the event loop or while holding a connection.
    """
    return PasswordHash(_hasher.hash(password))


def by_email(connection: Connection, email: str) -> tuple[Member, str] | None:
    """The member with this address and the password's hash, or None."""
    row = connection.execute(
        sa.select(members.c.id, members.c.account_id, members.c.email, members.c.role, members.c.password_hash).where(
            members.c.email == email.strip().lower()
        )
    ).first()
    return (Member(*row[:4]), row[4]) if row else None


def fits(password_hash: str | None, password: str) -> bool:
    """Whether the password matches the hash; without a hash False, after the same time.

    It takes as long as `hashed`.
    """
    try:
        _hasher.verify(password_hash or _nobody(), password)
    except Argon2Error:
        return False
    return password_hash is not None


@functools.cache
def _nobody() -> str:
    """A hash to compare with when the address is unknown, so that the answer takes the same time."""
    return _hasher.hash("nobody has this password")
