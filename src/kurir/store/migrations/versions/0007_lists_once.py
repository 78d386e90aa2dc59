"""Contact lists of imports and syncs are unique by name or by what they mirror.

Of duplicates the oldest keeps its role; the others become manual ones, with the people in them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_DOUBLES = """
UPDATE contacts SET type = 'manual', number_id = NULL, group_id = '' WHERE EXISTS (
    SELECT 1 FROM contacts AS older WHERE older.account_id = contacts.account_id AND older.id < contacts.id AND {same})
"""


def upgrade() -> None:
    op.execute("UPDATE contacts SET name = substr(name, 1, 512) WHERE length(name) > 512")
    same_import = "contacts.type = 'import' AND older.type = 'import' AND older.name = contacts.name"
    same_mirror = (
        "contacts.number_id IS NOT NULL AND older.number_id = contacts.number_id "
        "AND older.type = contacts.type AND older.group_id = contacts.group_id"
    )
    for same in (same_import, same_mirror):
        op.execute(_DOUBLES.format(same=same))
    for name, columns, where in (
        ("uq_contacts_import", ["account_id", "name"], "type = 'import'"),
        ("uq_contacts_mirror", ["account_id", "number_id", "type", "group_id"], "number_id IS NOT NULL"),
    ):
        op.create_index(
            name, "contacts", columns, unique=True, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )
    # for the check whether a row still names a file to be removed
    op.create_index("ix_media_path", "media", ["path"])


def downgrade() -> None:
    op.drop_index("ix_media_path", "media")
    op.drop_index("uq_contacts_mirror", "contacts")
    op.drop_index("uq_contacts_import", "contacts")
