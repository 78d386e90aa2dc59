"""How far a broadcast has come is published: what was published last, and which are still running.

Those without a waiting message are over, as are those to a single person.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("broadcasts", sa.Column("settled", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("broadcasts", sa.Column("ended_at", sa.Float(), nullable=True))
    op.execute("""
        UPDATE broadcasts SET ended_at = created_at WHERE recipients = 1 OR NOT EXISTS (
            SELECT 1 FROM messages m WHERE m.broadcast_id = broadcasts.id AND m.state IN ('queued', 'sending')
        )
    """)
    running = sa.text("ended_at IS NULL")
    op.create_index("ix_broadcasts_running", "broadcasts", ["id"], sqlite_where=running, postgresql_where=running)


def downgrade() -> None:
    op.drop_index("ix_broadcasts_running", "broadcasts")
    op.drop_column("broadcasts", "ended_at")
    op.drop_column("broadcasts", "settled")
