"""One-time passwords: codes have a length, and wrong checks are counted by minute, scope and length."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.drop_table("otp_failures")
    op.create_table(
        "otp_checks",
        sa.Column("account_id", _ID, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("digits", sa.Integer(), nullable=False),
        sa.Column("minute", sa.BigInteger(), nullable=False),
        sa.Column("process", sa.BigInteger(), nullable=False),
        sa.Column("wrong", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("chance", sa.Float(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_otp_checks_account_id")),
        sa.PrimaryKeyConstraint("account_id", "scope", "digits", "minute", "process", name=op.f("pk_otp_checks")),
    )
    op.create_index("ix_otp_checks_account_id_minute", "otp_checks", ["account_id", "minute"])
    # the codes that are open now have the length that was set before: 6 unless the operator changed it
    op.add_column("otps", sa.Column("digits", sa.Integer(), server_default="6", nullable=False))
    op.add_column("otps", sa.Column("wrong_by_phone", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("otps", "wrong_by_phone")
    op.drop_column("otps", "digits")
    op.drop_table("otp_checks")
    op.create_table(
        "otp_failures",
        sa.Column("id", _ID, nullable=False),
        sa.Column("account_id", _ID, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_otp_failures_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_otp_failures")),
    )
    op.create_index("ix_otp_failures_account_id_at", "otp_failures", ["account_id", "at"])
