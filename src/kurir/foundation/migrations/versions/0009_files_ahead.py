"""Messages that wait for their files are found quickly."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_WAITING = sa.text("state = 'queued' AND kind IN ('image','document')")


def upgrade() -> None:
    op.create_index(
        "ix_messages_files",
        "messages",
        ["number_id", "priority", "id"],
        sqlite_where=_WAITING,
        postgresql_where=_WAITING,
    )


def downgrade() -> None:
    op.drop_index("ix_messages_files", "messages")
