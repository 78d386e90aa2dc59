"""The event log, made of the webhooks' events; each endpoint has a cursor."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_CHAT = "coalesce((SELECT min(d.chat) FROM webhook_deliveries d WHERE d.event_id = e.id), '')"
_NEWEST = "coalesce((SELECT max(e.id) FROM events e WHERE e.account_id = webhook_endpoints.account_id), 0)"


def upgrade() -> None:
    # in SQLite references to the table are by its name and survive its replacement
    sqlite = op.get_bind().dialect.name == "sqlite"
    if sqlite:
        op.rename_table("webhook_events", "events")
    else:
        op.drop_constraint("fk_webhook_deliveries_event_id", "webhook_deliveries")
    name = "new_events" if sqlite else "events"
    op.create_table(
        name,
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("number_id", sa.BigInteger(), nullable=True),
        sa.Column("key", sa.Text(), server_default="", nullable=False),
        sa.Column("type", sa.Text(), server_default="", nullable=False),
        sa.Column("chat", sa.Text(), server_default="", nullable=False),
        sa.Column("body", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("key", name=op.f("uq_events_key")),
        sqlite_autoincrement=True,
    )
    op.execute(f"""
        INSERT INTO {name} (id, account_id, number_id, key, type, chat, body, created_at)
        SELECT id, account_id, number_id, key, type, {_CHAT}, body, created_at
        FROM {"events" if sqlite else "webhook_events"} e ORDER BY id
    """)  # noqa: S608 - our own names
    if sqlite:
        op.drop_table("events")
        op.rename_table("new_events", "events")
    else:
        op.drop_table("webhook_events")
        op.execute("SELECT setval(pg_get_serial_sequence('events', 'id'), greatest(max(id), 1)) FROM events")
        op.create_foreign_key("fk_webhook_deliveries_event_id", "webhook_deliveries", "events", ["event_id"], ["id"])
    op.create_index("ix_events_account_id_id", "events", ["account_id", "id"])
    # existing events have their deliveries
    op.add_column("webhook_endpoints", sa.Column("after_event", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(f"UPDATE webhook_endpoints SET after_event = {_NEWEST}")  # noqa: S608 - our own names


def downgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    op.drop_column("webhook_endpoints", "after_event")
    op.drop_index("ix_events_account_id_id", "events")
    if not sqlite:
        op.drop_constraint("fk_webhook_deliveries_event_id", "webhook_deliveries")
    kept = "SELECT d.event_id FROM webhook_deliveries d"
    name = "old_events" if sqlite else "webhook_events"
    if sqlite:
        op.rename_table("events", "webhook_events")
    id_type = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        name,
        sa.Column("id", id_type, nullable=False),
        sa.Column("account_id", id_type, nullable=False),
        sa.Column("number_id", id_type, nullable=False),
        sa.Column("key", sa.Text(), server_default="", nullable=False),
        sa.Column("type", sa.Text(), server_default="", nullable=False),
        sa.Column("body", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_webhook_events_account_id")),
        sa.ForeignKeyConstraint(["number_id"], ["numbers.id"], name=op.f("fk_webhook_events_number_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_events")),
        sa.UniqueConstraint("key", name=op.f("uq_webhook_events_key")),
    )
    op.execute(f"""
        INSERT INTO {name} (id, account_id, number_id, key, type, body, created_at)
        SELECT id, account_id, number_id, key, type, body, created_at
        FROM {"webhook_events" if sqlite else "events"} WHERE id IN ({kept}) ORDER BY id
    """)  # noqa: S608 - our own names
    if sqlite:
        op.drop_table("webhook_events")
        op.rename_table("old_events", "webhook_events")
    else:
        op.drop_table("events")
        op.execute(
            "SELECT setval(pg_get_serial_sequence('webhook_events', 'id'), greatest(max(id), 1)) FROM webhook_events"
        )
        op.create_foreign_key(
            "fk_webhook_deliveries_event_id", "webhook_deliveries", "webhook_events", ["event_id"], ["id"]
        )
    op.create_index("ix_webhook_events_created_at", "webhook_events", ["created_at"])
