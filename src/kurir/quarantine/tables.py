"""The table of quarantined items."""

from __future__ import annotations

import sqlalchemy as sa

from kurir.store.tables import id_column, metadata, text_column, time_column

quarantine = sa.Table(
    "quarantine",
    metadata,
    id_column(),
    # no references: an item may name an account or a number that does not exist; 0 when it is unknown
    sa.Column("account_id", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("number_id", sa.BigInteger, nullable=False, server_default="0"),
    text_column("queue"),
    text_column("reference"),
    text_column("reason"),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    time_column("stored_at", nullable=False),
    sa.Index("ix_quarantine_account_id", "account_id", "id"),
    sa.Index("ix_quarantine_oldest", "account_id", "stored_at", "id"),
    sa.Index("ix_quarantine_stored_at", "stored_at"),
    sa.Index("uq_quarantine_queue_reference", "queue", "number_id", "reference", unique=True),
)
