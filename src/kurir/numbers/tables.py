"""Sender numbers of both channels."""

from __future__ import annotations

import sqlalchemy as sa

from kurir.store.tables import account_column, id_column, metadata, text_column, time_column

numbers = sa.Table(
    "numbers",
    metadata,
    id_column(),
    account_column(),
    text_column("key", unique=True),
    text_column("channel"),
    text_column("phone"),
    text_column("name"),
    text_column("state", default="disconnected"),
    text_column("state_reason"),
    time_column("last_connected_at"),
    text_column("jid"),
    text_column("phone_number_id"),
    text_column("waba_id"),
    text_column("app_id"),
    text_column("access_token_sealed"),
    text_column("app_secret_sealed"),
    text_column("verify_token_hash"),
    time_column("created_at", nullable=False),
    time_column("removed_at"),
    time_column("restricted_until"),
    sa.Column("restricted_seconds", sa.Float, nullable=False, server_default="0"),
    time_column("paused_at"),
    text_column("pause_reason"),
    sa.CheckConstraint("channel IN ('linked_device', 'cloud_api')", name="channel"),
    sa.Index("ix_numbers_account_id", "account_id"),
    sa.Index("ix_numbers_phone_number_id", "phone_number_id"),
)
