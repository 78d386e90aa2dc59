"""Message templates of official numbers."""

from __future__ import annotations

import sqlalchemy as sa

from kurir.store.tables import account_column, id_column, metadata, number_column, text_column, time_column

templates = sa.Table(
    "templates",
    metadata,
    id_column(),
    account_column(),
    number_column(),
    text_column("key", unique=True),
    text_column("name"),
    text_column("language"),
    text_column("category"),
    text_column("body"),
    text_column("header", default=""),
    text_column("footer"),
    text_column("buttons", default="[]"),
    text_column("variables", default="[]"),
    text_column("meta_id"),
    text_column("status", default="DRAFT"),
    text_column("rejected_reason"),
    time_column("created_at", nullable=False),
    time_column("updated_at", nullable=False),
    sa.UniqueConstraint("number_id", "name", "language"),
    sa.Index("ix_templates_account_id", "account_id"),
)
