"""The quarantine of items that could not be processed."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "quarantine",
        sa.Column("id", _ID, nullable=False),
        sa.Column("account_id", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("number_id", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("queue", sa.Text(), server_default="", nullable=False),
        sa.Column("reference", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("stored_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
    )
    op.create_index("ix_quarantine_account_id", "quarantine", ["account_id", "id"])
    op.create_index("ix_quarantine_stored_at", "quarantine", ["stored_at"])
    op.create_index("uq_quarantine_queue_reference", "quarantine", ["queue", "number_id", "reference"], unique=True)


def downgrade() -> None:
    op.drop_table("quarantine")
