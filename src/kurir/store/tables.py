"""Shared definitions of all tables: one metadata, kinds of columns, and the schema's version.

Each feature has its tables in its own `tables.py`; `kurir.schema` collects them. Times are unix seconds (float, UTC).
Every table with an account's data has `account_id`, which leads its indexes. JSON columns hold msgspec structs or plain
lists. Unique indexes enforce invariants: one message in flight per number and recipient, one callback stored once.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

SCHEMA_VERSION = "0014"
"""The newest migration in `migrations/versions`: a database that has it needs no migration."""

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def id_column() -> sa.Column[int]:
    """The primary key `id`, counted by the database."""
    return sa.Column("id", _ID, primary_key=True)


def reference(name: str, to: str, *, nullable: bool = False, **options: Any) -> sa.Column[int]:
    """An id of another table's row. It has a type of its own: what SQLAlchemy would take from that table is missing
    until its feature has been imported."""
    return sa.Column(name, _ID, sa.ForeignKey(to), nullable=nullable, **options)


def account_column() -> sa.Column[int]:
    """The account whose data a row is."""
    return reference("account_id", "accounts.id")


def number_column() -> sa.Column[int]:
    """The sender number that a row belongs to."""
    return reference("number_id", "numbers.id")


def text_column(name: str, *, default: str | None = "", unique: bool = False) -> sa.Column[str]:
    """A text column, NOT NULL unless its `default` is None."""
    return sa.Column(name, sa.Text, nullable=default is None, server_default=default, unique=unique)


def time_column(name: str, *, nullable: bool = True) -> sa.Column[float]:
    """A time in unix seconds."""
    return sa.Column(name, sa.Float, nullable=nullable)


installation = sa.Table(
    "installation",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    text_column("key_check"),
)
