"""Broadcasts. `settled` messages were settled when progress was last published; `ended_at`: nothing waits any more."""

from __future__ import annotations

import sqlalchemy as sa

from kurir.store.tables import account_column, id_column, metadata, number_column, text_column, time_column

broadcasts = sa.Table(
    "broadcasts",
    metadata,
    id_column(),
    account_column(),
    number_column(),
    text_column("key", unique=True),
    text_column("template_name"),
    sa.Column("recipients", sa.Integer, nullable=False),
    sa.Column("settled", sa.Integer, nullable=False, server_default="0"),
    time_column("created_at", nullable=False),
    time_column("ended_at"),
    sa.Index(
        "ix_broadcasts_running",
        "id",
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    ),
)
