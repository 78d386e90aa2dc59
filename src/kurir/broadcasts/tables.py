"""Broadcasts."""

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
    time_column("created_at", nullable=False),
)
