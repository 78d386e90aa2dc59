"""Received messages, customer service windows, and callbacks of Meta as they came."""

from __future__ import annotations

import sqlalchemy as sa

from kurir.store.tables import account_column, id_column, metadata, number_column, reference, text_column, time_column

incoming = sa.Table(
    "incoming",
    metadata,
    id_column(),
    account_column(),
    number_column(),
    text_column("remote_id"),
    text_column("chat"),
    text_column("sender"),
    text_column("sender_name"),
    time_column("at", nullable=False),
    time_column("stored_at", nullable=False),
    text_column("kind"),
    text_column("text"),
    text_column("media", default=""),
    text_column("location", default=""),
    sa.Column("from_me", sa.Integer, nullable=False, server_default="0"),
    sa.Column("forwarded", sa.Integer, nullable=False, server_default="0"),
    sa.UniqueConstraint("number_id", "chat", "remote_id"),
    sa.Index("ix_incoming_account_id_id", "account_id", "id"),
)


windows = sa.Table(
    "windows",
    metadata,
    account_column(),
    reference("number_id", "numbers.id", primary_key=True),
    sa.Column("person", sa.Text, primary_key=True),
    time_column("last_incoming_at", nullable=False),
)


callbacks = sa.Table(
    "callbacks",
    metadata,
    id_column(),
    account_column(),
    number_column(),
    text_column("fingerprint"),
    text_column("body"),
    # bytes that the body takes, with its row; 0 for a row without one
    sa.Column("size", sa.Integer, nullable=False, server_default="0"),
    time_column("stored_at", nullable=False),
    sa.UniqueConstraint("number_id", "fingerprint"),
    sa.Index(
        "ix_callbacks_raw",
        "account_id",
        "id",
        "size",
        sqlite_where=sa.text("size > 0"),
        postgresql_where=sa.text("size > 0"),
    ),
)
