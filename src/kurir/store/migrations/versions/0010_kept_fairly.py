"""Early receipts store their sender; the quarantine has an index for the oldest failures."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("early_receipts", sa.Column("person", sa.Text(), nullable=False, server_default=""))
    op.create_index("ix_quarantine_oldest", "quarantine", ["account_id", "stored_at", "id"])


def downgrade() -> None:
    op.drop_index("ix_quarantine_oldest", "quarantine")
    op.drop_column("early_receipts", "person")
