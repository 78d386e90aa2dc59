"""What the event log says about a contact list: each change, in the transaction that made it."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.contacts.tables import contacts
from kurir.events.append import append
from kurir.events.bodies import ContactListChanged, ListChange


def publish_change(
    connection: Connection, account_id: int, contact_id: int, change: ListChange, *, people: int = 0, at: float
) -> None:
    """Appends a change of the account's list, of `people` in it; nothing when the account has no such list."""
    found = connection.execute(
        sa.select(contacts.c.key, contacts.c.name).where(
            contacts.c.account_id == account_id, contacts.c.id == contact_id
        )
    ).first()
    if found is not None:
        body = ContactListChanged(
            contact_id=found.key, name=found.name, change=change, people=people, timestamp=int(at)
        )
        append(connection, account_id, None, "contact_list_changed", found.key, body=lambda: body, now=at)
