"""Endpoints, and deliveries with their attempts. The events are those of the event log (`events.tables`)."""

from __future__ import annotations

import sqlalchemy as sa

from kurir.store.tables import account_column, id_column, metadata, number_column, reference, text_column, time_column

webhook_endpoints = sa.Table(
    "webhook_endpoints",
    metadata,
    id_column(),
    account_column(),
    text_column("key", unique=True),
    text_column("url"),
    reference("number_id", "numbers.id", nullable=True),
    text_column("events", default="[]"),
    text_column("secret_sealed"),
    text_column("old_secret_sealed"),
    time_column("old_secret_until"),
    text_column("state", default="active"),
    text_column("state_reason"),
    time_column("active_since", nullable=False),
    sa.Column("after_event", sa.BigInteger, nullable=False, server_default="0"),
    time_column("created_at", nullable=False),
    time_column("removed_at"),
    sa.CheckConstraint("state IN ('active', 'disabled')", name="state"),
    sa.Index("ix_webhook_endpoints_account_id", "account_id"),
)


webhook_deliveries = sa.Table(
    "webhook_deliveries",
    metadata,
    id_column(),
    account_column(),
    reference("endpoint_id", "webhook_endpoints.id"),
    reference("event_id", "events.id"),
    number_column(),
    text_column("chat"),
    text_column("state"),
    sa.Column("in_order", sa.Integer, nullable=False, server_default="1"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    time_column("due_at", nullable=False),
    time_column("created_at", nullable=False),
    time_column("ended_at"),
    sa.CheckConstraint("state IN ('waiting', 'pending', 'sending', 'delivered', 'failed', 'canceled')", name="state"),
    sa.UniqueConstraint("event_id", "endpoint_id"),
    sa.Index(
        "ix_webhook_deliveries_due",
        "endpoint_id",
        "due_at",
        sqlite_where=sa.text("state IN ('pending', 'sending')"),
        postgresql_where=sa.text("state IN ('pending', 'sending')"),
    ),
    sa.Index(
        "ix_webhook_deliveries_order",
        "endpoint_id",
        "number_id",
        "chat",
        "id",
        sqlite_where=sa.text("state IN ('waiting', 'pending', 'sending')"),
        postgresql_where=sa.text("state IN ('waiting', 'pending', 'sending')"),
    ),
    sa.Index("ix_webhook_deliveries_ended", "ended_at"),
)


webhook_attempts = sa.Table(
    "webhook_attempts",
    metadata,
    id_column(),
    account_column(),
    reference("endpoint_id", "webhook_endpoints.id"),
    sa.Column("delivery_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    time_column("at", nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("succeeded", sa.Integer, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    text_column("reason"),
    text_column("answer"),
    sa.Index("ix_webhook_attempts_health", "endpoint_id", "succeeded", "at"),
)
