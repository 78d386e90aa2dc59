"""Tables of tenants, their members, and their API keys."""

from __future__ import annotations

import sqlalchemy as sa

from kurir.store.tables import account_column, id_column, metadata, text_column, time_column

accounts = sa.Table(
    "accounts",
    metadata,
    id_column(),
    text_column("name"),
    text_column("email", unique=True),
    text_column("package_name", default="Enterprise"),
    time_column("package_from", nullable=False),
    time_column("package_until", nullable=False),
    text_column("timezone", default="Asia/Jakarta"),
    text_column("language", default="id"),
    text_column("country_code", default="62"),
    text_column("doubt", default="hold"),
    sa.Column("repeat_guard_seconds", sa.Float, nullable=False, server_default="0"),
    time_column("created_at", nullable=False),
    sa.CheckConstraint("doubt IN ('hold', 'resend')", name="doubt"),
)


members = sa.Table(
    "members",
    metadata,
    id_column(),
    account_column(),
    text_column("email", unique=True),
    text_column("password_hash"),
    text_column("role", default="owner"),
    time_column("created_at", nullable=False),
)


api_keys = sa.Table(
    "api_keys",
    metadata,
    id_column(),
    account_column(),
    text_column("key_hash", unique=True),
    text_column("last4"),
    text_column("label"),
    time_column("created_at", nullable=False),
    time_column("revoked_at"),
)
