"""Customer service windows: how long an official number may send a person free text."""

from __future__ import annotations

from sqlalchemy import Connection

from kurir.inbox.tables import windows

WINDOW = 24 * 3600.0
"""Seconds of the customer service window after a person's last message (Cloud API)."""


def window_open_until(connection: Connection, account_id: int, number_id: int, person: str) -> float | None:
    """When the customer service window between an official number and a person closes; None when it never opened."""
    row = connection.execute(
        windows.select().where(
            windows.c.account_id == account_id, windows.c.number_id == number_id, windows.c.person == person
        )
    ).first()
    return row.last_incoming_at + WINDOW if row else None
