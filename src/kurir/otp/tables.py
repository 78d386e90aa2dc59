"""One-time passwords, and the counted checks of them."""

from __future__ import annotations

import sqlalchemy as sa

from kurir.store.tables import account_column, id_column, metadata, text_column, time_column

otps = sa.Table(
    "otps",
    metadata,
    id_column(),
    account_column(),
    text_column("code_hash"),
    text_column("request_hash"),
    text_column("phone"),
    time_column("created_at", nullable=False),
    time_column("expires_at", nullable=False),
    time_column("used_at"),
    sa.Column("wrong_tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("message_id", sa.BigInteger, nullable=True),
    sa.Column("digits", sa.Integer, nullable=False, server_default="6"),
    sa.Column("wrong_by_phone", sa.Integer, nullable=False, server_default="0"),
    sa.Index("ix_otps_account_id_code_hash", "account_id", "code_hash"),
    sa.Index("ix_otps_account_id_expires_at", "account_id", "expires_at"),
    sa.Index("ix_otps_account_id_phone", "account_id", "phone", "created_at"),
)


otp_checks = sa.Table(
    "otp_checks",
    metadata,
    account_column(),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("digits", sa.Integer, nullable=False),
    sa.Column("minute", sa.BigInteger, nullable=False),
    sa.Column("process", sa.BigInteger, nullable=False),
    sa.Column("wrong", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("chance", sa.Float, nullable=False, server_default="0"),
    sa.PrimaryKeyConstraint("account_id", "scope", "digits", "minute", "process"),
    sa.Index("ix_otp_checks_account_id_minute", "account_id", "minute"),
)
