"""Appends to the event log that a sender number was added, renamed or removed, in the transaction that did it."""

from __future__ import annotations

from sqlalchemy import Connection

from kurir.events.append import append
from kurir.events.bodies import NumberChange, NumberChanged
from kurir.numbers.numbers import Number


def publish_change(connection: Connection, number: Number, change: NumberChange, now: float) -> None:
    """Appends a change of the number, given as it is now, or as it was before it was removed. `now`: unix seconds."""
    body = NumberChanged(
        number_id=number.key,
        name=number.name,
        phone=number.phone,
        channel=number.channel,
        change=change,
        timestamp=int(now),
    )
    append(connection, number.account_id, number.id, "number_changed", "", body=lambda: body, now=now)
