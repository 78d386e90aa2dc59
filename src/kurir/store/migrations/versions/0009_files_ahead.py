"""Separate indexes for messages with files, and for the next to become due."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_QUEUED = "state = 'queued'"
_FILES = "kind IN ('image','document')"
_NO_FILES = "kind NOT IN ('image','document')"


def _index(name: str, columns: list[str], where: str) -> None:
    op.create_index(name, "messages", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def upgrade() -> None:
    op.drop_index("ix_messages_queue", "messages")
    _index("ix_messages_queue", ["number_id", "priority", "id"], f"{_QUEUED} AND {_NO_FILES}")
    _index("ix_messages_files", ["number_id", "priority", "due_at", "id"], f"{_QUEUED} AND {_FILES}")
    _index("ix_messages_due", ["number_id", "due_at"], _QUEUED)


def downgrade() -> None:
    for name in ("ix_messages_due", "ix_messages_files", "ix_messages_queue"):
        op.drop_index(name, "messages")
    _index("ix_messages_queue", ["number_id", "priority", "id"], _QUEUED)
