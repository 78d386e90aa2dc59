"""Work done once at the end of a transaction, however many pieces of work in it request it.

Bounds on tables (so many rows of an account) are enforced here: the check costs the same for one new row as for five
hundred, and it delays all writes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from sqlalchemy import Connection

_KEY = "kurir_transaction_end"


def at_end(connection: Connection, key: Hashable, work: Callable[[Connection], object]) -> None:
    """Runs `work` just before the commit of the current transaction, once for each key: the last one given.

    When it fails, its changes are undone and the error is logged; the transaction is committed all the same. So it
    suits only work that the next transaction can make up for.
    """
    connection.info.setdefault(_KEY, {})[key] = work


def taken(connection: Connection) -> list[Callable[[Connection], object]]:
    """Returns the requested work and clears it. Also called at a transaction's beginning, because an abandoned one may
    have left work."""
    return list(connection.info.pop(_KEY, {}).values())
