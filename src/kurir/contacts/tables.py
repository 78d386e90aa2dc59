"""Contact lists (`contacts`) and the people in them (`audiences`)."""

from __future__ import annotations

import sqlalchemy as sa

from kurir.store.tables import account_column, id_column, metadata, reference, text_column, time_column

contacts = sa.Table(
    "contacts",
    metadata,
    id_column(),
    account_column(),
    text_column("key", unique=True),
    text_column("name"),
    text_column("type", default="manual"),
    sa.Column("number_id", sa.BigInteger, nullable=True),
    text_column("group_id"),
    time_column("created_at", nullable=False),
    time_column("updated_at", nullable=False),
    sa.CheckConstraint("type IN ('manual', 'import', 'sync_from_whatsapp', 'group')", name="type"),
    sa.Index("ix_contacts_account_id", "account_id"),
    # an import finds its list by the name, a sync by what it mirrors: of two concurrent ones, one creates the list
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
    id_column(),
    account_column(),
    reference("contact_id", "contacts.id"),
    text_column("key", unique=True),
    text_column("name"),
    text_column("phone"),
    text_column("status", default="not_checked"),
    text_column("custom_fields", default="{}"),
    time_column("created_at", nullable=False),
    sa.UniqueConstraint("contact_id", "phone"),
    sa.CheckConstraint("status IN ('not_checked', 'valid', 'invalid')", name="status"),
    sa.Index("ix_audiences_account_id", "account_id", "contact_id"),
)
