"""The event log.

It refers to no other table: an append neither looks anything up nor waits for a lock. Ids are never reused, also after
the newest events were deleted, because readers keep them as cursors.
"""

from __future__ import annotations

import sqlalchemy as sa

from kurir.store.tables import id_column, metadata, text_column, time_column

events = sa.Table(
    "events",
    metadata,
    id_column(),
    sa.Column("account_id", sa.BigInteger, nullable=False),
    sa.Column("number_id", sa.BigInteger, nullable=True),
    text_column("key", unique=True),
    text_column("type"),
    text_column("chat"),
    text_column("body"),
    time_column("created_at", nullable=False),
    sa.Index("ix_events_account_id_id", "account_id", "id"),
    sqlite_autoincrement=True,
)
