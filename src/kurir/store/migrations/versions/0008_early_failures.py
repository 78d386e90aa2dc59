"""Early receipts store why a message failed, and have an index for the newest of a number."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    for name in ("code", "reason"):
        op.add_column("early_receipts", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    op.create_index("ix_early_receipts_newest", "early_receipts", ["number_id", "stored_at"])


def downgrade() -> None:
    op.drop_index("ix_early_receipts_newest", "early_receipts")
    for name in ("reason", "code"):
        op.drop_column("early_receipts", name)
