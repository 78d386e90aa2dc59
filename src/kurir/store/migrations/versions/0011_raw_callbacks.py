"""Raw callbacks have a size, so that an account's can be bounded.

Existing ones are not counted: they are deleted by age.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("callbacks", sa.Column("size", sa.Integer(), nullable=False, server_default="0"))
    some = sa.text("size > 0")
    op.create_index(
        "ix_callbacks_raw", "callbacks", ["account_id", "id", "size"], sqlite_where=some, postgresql_where=some
    )


def downgrade() -> None:
    op.drop_index("ix_callbacks_raw", "callbacks")
    op.drop_column("callbacks", "size")
