"""What a transaction does once at its end, however many pieces of work in it ask for it.

A bound on a table (so many rows of an account) is looked after here: a look at the table costs the same for one new row
as for five hundred, and everybody's writes wait for the one writer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from sqlalchemy import Connection

_KEY = "kurir_transaction_end"


def at_end(connection: Connection, key: Hashable, work: Callable[[Connection], object]) -> None:
    """`work` is run just before the commit of the transaction under way, once for each key: the last one named.

    When it fails, its changes are undone and it is logged: what the transaction is for is stored all the same. So it
    is for what the next transaction can make good.
    """
    connection.info.setdefault(_KEY, {})[key] = work


def taken(connection: Connection) -> list[Callable[[Connection], object]]:
    """What is to be done now; it is forgotten. Called at a transaction's beginning too: one that was given up may have
    left something."""
    return list(connection.info.pop(_KEY, {}).values())
