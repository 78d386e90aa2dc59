"""Every table, in one place. The hot statements beside the code that runs them name the same columns.

Times are unix seconds (float, UTC). `account_id` stands in every table that holds an account's data and leads its
indexes. JSON columns hold msgspec structs or plain lists. What must never happen is refused here: one message in
flight per number and recipient, one OTP code open per account, one callback stored once.
"""

from __future__ import annotations

import sqlalchemy as sa

SCHEMA_VERSION = "0010"
"""The newest migration in `migrations/versions`: a database that has it needs no migration."""

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True)


def _account() -> sa.Column[int]:
    return sa.Column("account_id", sa.ForeignKey("accounts.id"), nullable=False)


def _number() -> sa.Column[int]:
    return sa.Column("number_id", sa.ForeignKey("numbers.id"), nullable=False)


def _text(name: str, *, default: str | None = "", unique: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=default is None, server_default=default, unique=unique)


def _time(name: str, *, nullable: bool = True) -> sa.Column[float]:
    return sa.Column(name, sa.Float, nullable=nullable)


accounts = sa.Table(
    "accounts",
    metadata,
    _id(),
    _text("name"),
    _text("email", unique=True),
    _text("package_name", default="Enterprise"),
    _time("package_from", nullable=False),
    _time("package_until", nullable=False),
    _text("timezone", default="Asia/Jakarta"),
    _text("language", default="id"),
    _text("country_code", default="62"),
    _text("doubt", default="hold"),
    sa.Column("repeat_guard_seconds", sa.Float, nullable=False, server_default="0"),
    _time("created_at", nullable=False),
    sa.CheckConstraint("doubt IN ('hold', 'resend')", name="doubt"),
)

members = sa.Table(
    "members",
    metadata,
    _id(),
    _account(),
    _text("email", unique=True),
    _text("password_hash"),
    _text("role", default="owner"),
    _time("created_at", nullable=False),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    _id(),
    _account(),
    _text("key_hash", unique=True),
    _text("last4"),
    _text("label"),
    _time("created_at", nullable=False),
    _time("revoked_at"),
)

numbers = sa.Table(
    "numbers",
    metadata,
    _id(),
    _account(),
    _text("key", unique=True),
    _text("channel"),
    _text("phone"),
    _text("name"),
    _text("state", default="disconnected"),
    _text("state_reason"),
    _time("last_connected_at"),
    _text("jid"),
    _text("phone_number_id"),
    _text("waba_id"),
    _text("app_id"),
    _text("access_token_sealed"),
    _text("app_secret_sealed"),
    _text("verify_token_hash"),
    _time("created_at", nullable=False),
    _time("removed_at"),
    _time("restricted_until"),
    sa.Column("restricted_seconds", sa.Float, nullable=False, server_default="0"),
    sa.CheckConstraint("channel IN ('linked_device', 'cloud_api')", name="channel"),
    sa.Index("ix_numbers_account_id", "account_id"),
    sa.Index("ix_numbers_phone_number_id", "phone_number_id"),
)

messages = sa.Table(
    "messages",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
    _account(),
    _number(),
    _text("recipient"),
    _text("kind"),
    _text("content"),
    sa.Column("sealed", sa.Integer, nullable=False, server_default="0"),
    sa.Column("typing", sa.Integer, nullable=False, server_default="0"),
    sa.Column("priority", sa.Integer, nullable=False, server_default="5"),
    _text("origin", default="api"),
    sa.Column("broadcast_id", sa.BigInteger, nullable=True),
    _text("state", default="queued"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    _time("created_at", nullable=False),
    _time("due_at", nullable=False),
    _time("expires_at", nullable=False),
    _text("remote_id", default=None),
    _text("error_code"),
    _text("error_reason"),
    _time("sent_at"),
    _time("delivered_at"),
    _time("read_at"),
    _time("ended_at"),
    _time("doubt_until"),
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
    _id(),
    _account(),
    sa.Column("message_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    _time("ended_at", nullable=False),
    _text("outcome"),
    _text("code"),
    _text("reason"),
)

idempotency = sa.Table(
    "idempotency",
    metadata,
    _account(),
    sa.Column("key_hash", sa.Text, nullable=False),
    _text("request_hash"),
    _text("accepted"),
    _text("answer"),
    _time("created_at", nullable=False),
    sa.PrimaryKeyConstraint("account_id", "key_hash"),
    sa.Index("ix_idempotency_created_at", "created_at"),
)

media = sa.Table(
    "media",
    metadata,
    _id(),
    _account(),
    sa.Column("message_id", sa.BigInteger, nullable=False),
    _text("url"),
    _text("path"),
    _text("mime"),
    _text("name"),
    sa.Column("size", sa.BigInteger, nullable=False),
    _text("sha256"),
    _time("created_at", nullable=False),
    sa.UniqueConstraint("message_id"),
    sa.Index("ix_media_path", "path"),
)

broadcasts = sa.Table(
    "broadcasts",
    metadata,
    _id(),
    _account(),
    _number(),
    _text("key", unique=True),
    _text("template_name"),
    sa.Column("recipients", sa.Integer, nullable=False),
    _time("created_at", nullable=False),
)

templates = sa.Table(
    "templates",
    metadata,
    _id(),
    _account(),
    _number(),
    _text("key", unique=True),
    _text("name"),
    _text("language"),
    _text("category"),
    _text("body"),
    _text("header", default=""),
    _text("footer"),
    _text("buttons", default="[]"),
    _text("variables", default="[]"),
    _text("meta_id"),
    _text("status", default="DRAFT"),
    _text("rejected_reason"),
    _time("created_at", nullable=False),
    _time("updated_at", nullable=False),
    sa.UniqueConstraint("number_id", "name", "language"),
    sa.Index("ix_templates_account_id", "account_id"),
)

otps = sa.Table(
    "otps",
    metadata,
    _id(),
    _account(),
    _text("code_hash"),
    _text("request_hash"),
    _text("phone"),
    _time("created_at", nullable=False),
    _time("expires_at", nullable=False),
    _time("used_at"),
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
    _account(),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("digits", sa.Integer, nullable=False),
    sa.Column("minute", sa.BigInteger, nullable=False),
    sa.Column("process", sa.BigInteger, nullable=False),
    sa.Column("wrong", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("chance", sa.Float, nullable=False, server_default="0"),
    sa.PrimaryKeyConstraint("account_id", "scope", "digits", "minute", "process"),
    sa.Index("ix_otp_checks_account_id_minute", "account_id", "minute"),
)

contacts = sa.Table(
    "contacts",
    metadata,
    _id(),
    _account(),
    _text("key", unique=True),
    _text("name"),
    _text("type", default="manual"),
    sa.Column("number_id", sa.BigInteger, nullable=True),
    _text("group_id"),
    _time("created_at", nullable=False),
    _time("updated_at", nullable=False),
    sa.CheckConstraint("type IN ('manual', 'import', 'sync_from_whatsapp', 'group')", name="type"),
    sa.Index("ix_contacts_account_id", "account_id"),
    # an import finds its list by the name, a sync by what it mirrors: of two at the same time one makes the list
    sa.Index(
        "uq_contacts_import",
        "account_id",
        "name",
        unique=True,
        sqlite_where=sa.text("type = 'import'"),
        postgresql_where=sa.text("type = 'import'"),
    ),
    sa.Index(
        "uq_contacts_mirror",
        "account_id",
        "number_id",
        "type",
        "group_id",
        unique=True,
        sqlite_where=sa.text("number_id IS NOT NULL"),
        postgresql_where=sa.text("number_id IS NOT NULL"),
    ),
)

audiences = sa.Table(
    "audiences",
    metadata,
    _id(),
    _account(),
    sa.Column("contact_id", sa.ForeignKey("contacts.id"), nullable=False),
    _text("key", unique=True),
    _text("name"),
    _text("phone"),
    _text("status", default="not_checked"),
    _text("custom_fields", default="{}"),
    _time("created_at", nullable=False),
    sa.UniqueConstraint("contact_id", "phone"),
    sa.CheckConstraint("status IN ('not_checked', 'valid', 'invalid')", name="status"),
    sa.Index("ix_audiences_account_id", "account_id", "contact_id"),
)

incoming = sa.Table(
    "incoming",
    metadata,
    _id(),
    _account(),
    _number(),
    _text("remote_id"),
    _text("chat"),
    _text("sender"),
    _text("sender_name"),
    _time("at", nullable=False),
    _time("stored_at", nullable=False),
    _text("kind"),
    _text("text"),
    _text("media", default=""),
    _text("location", default=""),
    sa.Column("from_me", sa.Integer, nullable=False, server_default="0"),
    sa.Column("forwarded", sa.Integer, nullable=False, server_default="0"),
    sa.UniqueConstraint("number_id", "chat", "remote_id"),
    sa.Index("ix_incoming_account_id_id", "account_id", "id"),
)

early_receipts = sa.Table(
    "early_receipts",
    metadata,
    sa.Column("account_id", sa.BigInteger, nullable=False),
    sa.Column("number_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("remote_id", sa.Text, primary_key=True),
    sa.Column("status", sa.Text, primary_key=True),
    _time("at", nullable=False),
    _time("stored_at", nullable=False),
    sa.Column("code", sa.Text, nullable=False, server_default=""),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("person", sa.Text, nullable=False, server_default=""),
    sa.Index("ix_early_receipts_newest", "number_id", "stored_at"),
)

windows = sa.Table(
    "windows",
    metadata,
    _account(),
    sa.Column("number_id", sa.ForeignKey("numbers.id"), primary_key=True),
    sa.Column("person", sa.Text, primary_key=True),
    _time("last_incoming_at", nullable=False),
)

callbacks = sa.Table(
    "callbacks",
    metadata,
    _id(),
    _account(),
    _number(),
    _text("fingerprint"),
    _text("body"),
    _time("stored_at", nullable=False),
    sa.UniqueConstraint("number_id", "fingerprint"),
)

webhook_endpoints = sa.Table(
    "webhook_endpoints",
    metadata,
    _id(),
    _account(),
    _text("key", unique=True),
    _text("url"),
    sa.Column("number_id", sa.ForeignKey("numbers.id"), nullable=True),
    _text("events", default="[]"),
    _text("secret_sealed"),
    _text("old_secret_sealed"),
    _time("old_secret_until"),
    _text("state", default="active"),
    _text("state_reason"),
    _time("active_since", nullable=False),
    _time("created_at", nullable=False),
    _time("removed_at"),
    sa.CheckConstraint("state IN ('active', 'disabled')", name="state"),
    sa.Index("ix_webhook_endpoints_account_id", "account_id"),
)

webhook_events = sa.Table(
    "webhook_events",
    metadata,
    _id(),
    _account(),
    _number(),
    _text("key", unique=True),
    _text("type"),
    _text("body"),
    _time("created_at", nullable=False),
    sa.Index("ix_webhook_events_created_at", "created_at"),
)

webhook_deliveries = sa.Table(
    "webhook_deliveries",
    metadata,
    _id(),
    _account(),
    sa.Column("endpoint_id", sa.ForeignKey("webhook_endpoints.id"), nullable=False),
    sa.Column("event_id", sa.ForeignKey("webhook_events.id"), nullable=False),
    _number(),
    _text("chat"),
    _text("state"),
    sa.Column("in_order", sa.Integer, nullable=False, server_default="1"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    _time("due_at", nullable=False),
    _time("created_at", nullable=False),
    _time("ended_at"),
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
    _id(),
    _account(),
    sa.Column("endpoint_id", sa.ForeignKey("webhook_endpoints.id"), nullable=False),
    sa.Column("delivery_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    _time("at", nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("succeeded", sa.Integer, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    _text("reason"),
    _text("answer"),
    sa.Index("ix_webhook_attempts_health", "endpoint_id", "succeeded", "at"),
)

quarantine = sa.Table(
    "quarantine",
    metadata,
    _id(),
    # no references: what is set aside may name an account or a number that does not exist; 0 when none is known
    sa.Column("account_id", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("number_id", sa.BigInteger, nullable=False, server_default="0"),
    _text("queue"),
    _text("reference"),
    _text("reason"),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    _time("stored_at", nullable=False),
    sa.Index("ix_quarantine_account_id", "account_id", "id"),
    sa.Index("ix_quarantine_oldest", "account_id", "stored_at", "id"),
    sa.Index("ix_quarantine_stored_at", "stored_at"),
    sa.Index("uq_quarantine_queue_reference", "queue", "number_id", "reference", unique=True),
)

gateways = sa.Table(
    "gateways",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    _text("url"),
    _time("expires_at", nullable=False),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("number_id", sa.ForeignKey("numbers.id"), primary_key=True, autoincrement=False),
    _text("gateway"),
    sa.Column("token", sa.BigInteger, nullable=False),
)

installation = sa.Table(
    "installation",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    _text("key_check"),
)
