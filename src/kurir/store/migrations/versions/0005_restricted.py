"""Numbers that WhatsApp restricts to people they have been in contact with, and those people."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_REACHED = sa.text("state IN ('delivered','read')")


def upgrade() -> None:
    op.add_column("numbers", sa.Column("restricted_until", sa.Float(), nullable=True))
    op.add_column("numbers", sa.Column("restricted_seconds", sa.Float(), server_default="0", nullable=False))
    op.create_index(
        "ix_messages_reached",
        "messages",
        ["number_id", "recipient"],
        sqlite_where=_REACHED,
        postgresql_where=_REACHED,
    )


def downgrade() -> None:
    op.drop_index("ix_messages_reached", "messages")
    op.drop_column("numbers", "restricted_seconds")
    op.drop_column("numbers", "restricted_until")
