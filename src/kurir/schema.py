"""The complete schema: every feature's tables in one metadata, for tests and tools that need all of them."""

from __future__ import annotations

from kurir.accounts import tables as accounts_tables
from kurir.broadcasts import tables as broadcasts_tables
from kurir.contacts import tables as contacts_tables
from kurir.events import tables as events_tables
from kurir.inbox import tables as inbox_tables
from kurir.leases import tables as leases_tables
from kurir.numbers import tables as numbers_tables
from kurir.otp import tables as otp_tables
from kurir.outbox import tables as outbox_tables
from kurir.quarantine import tables as quarantine_tables
from kurir.store.tables import metadata
from kurir.templates import tables as templates_tables
from kurir.webhooks import tables as webhooks_tables

FEATURES = (
    accounts_tables,
    broadcasts_tables,
    contacts_tables,
    events_tables,
    inbox_tables,
    leases_tables,
    numbers_tables,
    otp_tables,
    outbox_tables,
    quarantine_tables,
    templates_tables,
    webhooks_tables,
)
"""The modules whose import adds their tables to `metadata`."""

tables = metadata.tables
"""Every table by its name."""

__all__ = ["FEATURES", "metadata", "tables"]
