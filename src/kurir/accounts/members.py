"""Members: the people who sign in for an account. Passwords are Argon2id hashes (argon2-cffi's defaults)."""

from __future__ import annotations

import functools
import time

import msgspec
import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error
from sqlalchemy import Connection

from kurir.foundation.tables import members

_hasher = PasswordHasher()


class Member(msgspec.Struct, frozen=True):
    """A person of an account; `role` is `owner` for now."""

    id: int
    account_id: int
    email: str
    role: str


def create(connection: Connection, account_id: int, email: str, password: str, role: str = "owner") -> Member:
    """A new member of the account."""
    email = email.strip().lower()
    result = connection.execute(
        members.insert().values(
            account_id=account_id,
            email=email,
            password_hash=_hasher.hash(password),
            role=role,
            created_at=time.time(),
        )
    )
    assert result.inserted_primary_key is not None
    return Member(result.inserted_primary_key[0], account_id, email, role)


def sign_in(connection: Connection, email: str, password: str) -> Member | None:
    """The member with this address and password, or None; it takes as long for an unknown address."""
    row = connection.execute(
        sa.select(members.c.id, members.c.account_id, members.c.email, members.c.role, members.c.password_hash).where(
            members.c.email == email.strip().lower()
        )
    ).first()
    try:
        _hasher.verify(row[4] if row else _nobody(), password)
    except Argon2Error:
        return None
    return Member(*row[:4]) if row else None


@functools.cache
def _nobody() -> str:
    """A hash to compare with when the address is unknown, so that the answer takes as long."""
    return _hasher.hash("nobody has this password")
