"""A pause is a property of the number beside its connection's state; before, it was a state of official numbers.

Since when a number is paused was not kept: it counts from this upgrade.
"""

import time

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column("numbers", sa.Column("paused_at", sa.Float(), nullable=True))
    op.add_column("numbers", sa.Column("pause_reason", sa.Text(), nullable=False, server_default=""))
    paused = sa.text("""
        UPDATE numbers SET paused_at = :now, pause_reason = state_reason, state = 'connected', state_reason = ''
        WHERE state = 'paused'
    """)
    op.execute(paused.bindparams(now=time.time()))


def downgrade() -> None:
    op.execute("""
        UPDATE numbers SET state = 'paused', state_reason = pause_reason
        WHERE paused_at IS NOT NULL AND channel = 'cloud_api'
    """)
    op.drop_column("numbers", "pause_reason")
    op.drop_column("numbers", "paused_at")
