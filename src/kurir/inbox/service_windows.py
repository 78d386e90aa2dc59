"""Customer service windows: how long an official number may send a person free text."""

from __future__ import annotations

from sqlalchemy import Connection

from kurir.store.statements import Statement

WINDOW = 24 * 3600.0
"""Seconds of the customer service window after a person's last message (Cloud API)."""
_LAST_INCOMING = Statement("""
SELECT last_incoming_at FROM windows WHERE number_id = :number AND person = :person AND account_id = :account
""")


def window_open_until(connection: Connection, account_id: int, number_id: int, person: str) -> float | None:
    """When the customer service window between an official number and a person closes; None when it never opened."""
    last = _LAST_INCOMING.scalar(connection, account=account_id, number=number_id, person=person)
    return None if last is None else last + WINDOW
