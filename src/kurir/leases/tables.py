"""Tables of gateways on one database, and of which gateway holds which number."""

from __future__ import annotations

import sqlalchemy as sa

from kurir.store.tables import metadata, reference, text_column, time_column

gateways = sa.Table(
    "gateways",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    text_column("url"),
    time_column("expires_at", nullable=False),
)


leases = sa.Table(
    "leases",
    metadata,
    reference("number_id", "numbers.id", primary_key=True, autoincrement=False),
    text_column("gateway"),
    sa.Column("token", sa.BigInteger, nullable=False),
)
