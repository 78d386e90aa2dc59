"""The first schema: every table of the first release.

The tables are created from their one definition while the first release is in the making; from the next migration
on, changes are written out.
"""

from alembic import op

from kurir.foundation.tables import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    metadata.create_all(op.get_bind())


def downgrade() -> None:
    metadata.drop_all(op.get_bind())
