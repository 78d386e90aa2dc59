"""Receipts that are faster than the answer to their send: kept until that is recorded, over a crash too.

Only receipts of a number that has something in flight can be such; of others nothing is kept.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.foundation.inserts import insert_into
from kurir.foundation.tables import early_receipts, messages
from kurir.messages.reports import StatusChanged

_LONGEST = 86_400.0
"""Seconds after which the answer to a send does not come any more: it was somebody else's message."""
_IN_FLIGHT = sa.select(messages.c.id).where(
    messages.c.number_id == sa.bindparam("number"),
    sa.text("+account_id = :account"),  # the number's index is the short one
    sa.text("state = 'sending'"),
)
_OF_MESSAGE = (
    early_receipts.c.account_id == sa.bindparam("account"),
    early_receipts.c.number_id == sa.bindparam("number"),
    early_receipts.c.remote_id == sa.bindparam("remote"),
)
_TAKE = early_receipts.delete().where(*_OF_MESSAGE).returning(early_receipts.c.status, early_receipts.c.at)
_OLD = early_receipts.delete().where(
    early_receipts.c.account_id == sa.bindparam("account"),
    early_receipts.c.number_id == sa.bindparam("number"),
    early_receipts.c.stored_at < sa.bindparam("before"),
)


def keep(connection: Connection, event: StatusChanged, now: float) -> None:
    """Keeps a receipt that no message is known for, if the number has something in flight that it may be about."""
    if (
        connection.execute(_IN_FLIGHT.limit(1), {"account": event.account_id, "number": event.number_id}).first()
        is None
    ):
        return
    connection.execute(_OLD, {"account": event.account_id, "number": event.number_id, "before": now - _LONGEST})
    connection.execute(
        insert_into(connection, early_receipts)
        .values(
            account_id=event.account_id,
            number_id=event.number_id,
            remote_id=event.remote_id,
            status=event.status,
            at=event.at,
            stored_at=now,
        )
        .on_conflict_do_nothing()
    )


def take(connection: Connection, account_id: int, number_id: int, remote_id: str) -> list[StatusChanged]:
    """The receipts that were kept for the number's message `remote_id`; they are forgotten."""
    rows = connection.execute(_TAKE, {"account": account_id, "number": number_id, "remote": remote_id}).all()
    return [StatusChanged(account_id, number_id, remote_id, row.status, row.at) for row in rows]
