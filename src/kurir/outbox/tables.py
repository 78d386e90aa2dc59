"""Messages with their attempts and fetched files, remembered requests, and early receipts."""

from __future__ import annotations

import sqlalchemy as sa

from kurir.store.tables import account_column, id_column, metadata, number_column, text_column, time_column

messages = sa.Table(
    "messages",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
    account_column(),
    number_column(),
    text_column("recipient"),
    text_column("kind"),
    text_column("content"),
    sa.Column("sealed", sa.Integer, nullable=False, server_default="0"),
    sa.Column("typing", sa.Integer, nullable=False, server_default="0"),
    sa.Column("priority", sa.Integer, nullable=False, server_default="5"),
    text_column("origin", default="api"),
    sa.Column("broadcast_id", sa.BigInteger, nullable=True),
    text_column("state", default="queued"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    time_column("created_at", nullable=False),
    time_column("due_at", nullable=False),
    time_column("expires_at", nullable=False),
    text_column("remote_id", default=None),
    text_column("error_code"),
    text_column("error_reason"),
    time_column("sent_at"),
    time_column("delivered_at"),
    time_column("read_at"),
    time_column("ended_at"),
    time_column("doubt_until"),
    sa.CheckConstraint(
        "state IN ('queued','sending','sent','delivered','read','failed','expired','canceled','unconfirmed')",
        name="state",
    ),
    sa.Index("ix_messages_account_id_id", "account_id", "id"),
    sa.Index(
        "ix_messages_queue",
        "number_id",
        "priority",
        "id",
        sqlite_where=sa.text("state = 'queued' AND kind NOT IN ('image','document')"),
        postgresql_where=sa.text("state = 'queued' AND kind NOT IN ('image','document')"),
    ),
    sa.Index(
        "ix_messages_due",
        "number_id",
        "due_at",
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    ),
    sa.Index(
        "ix_messages_lane",
        "number_id",
        "recipient",
        "priority",
        "id",
        sqlite_where=sa.text("state IN ('queued','sending')"),
        postgresql_where=sa.text("state IN ('queued','sending')"),
    ),
    sa.Index(
        "uq_messages_in_flight",
        "number_id",
        "recipient",
        unique=True,
        sqlite_where=sa.text("state = 'sending'"),
        postgresql_where=sa.text("state = 'sending'"),
    ),
    sa.Index(
        "ix_messages_expiry",
        "expires_at",
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    ),
    sa.Index(
        "ix_messages_remote",
        "number_id",
        "remote_id",
        # partial, or SQLite takes it for "the waiting messages of a number" and reads all its finished ones
        sqlite_where=sa.text("remote_id IS NOT NULL"),
        postgresql_where=sa.text("remote_id IS NOT NULL"),
    ),
    sa.Index(
        "ix_messages_doubt",
        "number_id",
        "recipient",
        sqlite_where=sa.text("doubt_until IS NOT NULL"),
        postgresql_where=sa.text("doubt_until IS NOT NULL"),
    ),
    sa.Index(
        "ix_messages_reached",
        "number_id",
        "recipient",
        sqlite_where=sa.text("state IN ('delivered','read')"),
        postgresql_where=sa.text("state IN ('delivered','read')"),
    ),
    sa.Index(
        "ix_messages_files",
        "number_id",
        "priority",
        "due_at",
        "id",
        sqlite_where=sa.text("state = 'queued' AND kind IN ('image','document')"),
        postgresql_where=sa.text("state = 'queued' AND kind IN ('image','document')"),
    ),
    sa.Index("ix_messages_broadcast", "broadcast_id"),
)


attempts = sa.Table(
    "attempts",
    metadata,
    id_column(),
    account_column(),
    sa.Column("message_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    time_column("ended_at", nullable=False),
    text_column("outcome"),
    text_column("code"),
    text_column("reason"),
)


media = sa.Table(
    "media",
    metadata,
    id_column(),
    account_column(),
    sa.Column("message_id", sa.BigInteger, nullable=False),
    text_column("url"),
    text_column("path"),
    text_column("mime"),
    text_column("name"),
    sa.Column("size", sa.BigInteger, nullable=False),
    text_column("sha256"),
    time_column("created_at", nullable=False),
    sa.UniqueConstraint("message_id"),
    sa.Index("ix_media_path", "path"),
)


idempotency = sa.Table(
    "idempotency",
    metadata,
    account_column(),
    sa.Column("key_hash", sa.Text, nullable=False),
    text_column("request_hash"),
    text_column("accepted"),
    text_column("answer"),
    time_column("created_at", nullable=False),
    sa.PrimaryKeyConstraint("account_id", "key_hash"),
    sa.Index("ix_idempotency_created_at", "created_at"),
)


early_receipts = sa.Table(
    "early_receipts",
    metadata,
    sa.Column("account_id", sa.BigInteger, nullable=False),
    sa.Column("number_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("remote_id", sa.Text, primary_key=True),
    sa.Column("status", sa.Text, primary_key=True),
    time_column("at", nullable=False),
    time_column("stored_at", nullable=False),
    sa.Column("code", sa.Text, nullable=False, server_default=""),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("person", sa.Text, nullable=False, server_default=""),
    sa.Index("ix_early_receipts_newest", "number_id", "stored_at"),
)
