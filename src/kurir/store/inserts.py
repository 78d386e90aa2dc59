"""Inserts that both databases understand: many rows in one statement, and conflicts with existing rows.

A `Batch` sends all its rows as one JSON array: one parameter, one parse, one release of the interpreter's lock, however
many rows. SQLite unpacks the array with `json_each`, PostgreSQL with `jsonb_array_elements`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import sqlite

from kurir.store.statements import run

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

NUL_STANDS_FOR = "\ufffd"
"""What is stored for the character NUL, which PostgreSQL's texts cannot hold."""

_encode = msgspec.json.Encoder().encode
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""Matches an escaped NUL in JSON, but not `\\\\u0000`, an escaped backslash before four digits."""


class Batch:
    """A frequent insert: the named columns of a table, many rows at a time."""

    def __init__(self, table: sa.Table, columns: Sequence[str]) -> None:
        self.table = table
        self.columns = columns

    def insert(self, connection: Connection, rows: Sequence[Sequence[Any] | msgspec.Raw]) -> None:
        """Inserts the rows, each in the order of the columns (or as a JSON array of them), within the caller's
        transaction."""
        array = _encode(rows).decode()
        if connection.dialect.name == "postgresql" and "\\u0000" in array:
            array = _NUL.sub(r"\1" + NUL_STANDS_FOR, array)
        run(connection, _statement(self, connection.dialect.name), (array,))


def insert_into(connection: Connection, table: sa.Table) -> postgresql.Insert:
    """An insert with `on_conflict_do_nothing` and `on_conflict_do_update`, in the dialect of the connection's
    database."""
    dialect = sqlite if connection.dialect.name == "sqlite" else _postgresql()
    return cast("postgresql.Insert", dialect.insert(table))  # both have the same methods


@cache
def _statement(batch: Batch, database: str) -> str:
    head = f"INSERT INTO {batch.table.name} ({', '.join(batch.columns)}) SELECT"
    if database == "sqlite":
        values = ", ".join(f"value->>{i}" for i in range(len(batch.columns)))
        return f"{head} {values} FROM json_each(?)"
    types = [batch.table.c[name].type.compile(_postgresql().dialect()) for name in batch.columns]
    values = ", ".join(f"(value->>{i})::{type_}" for i, type_ in enumerate(types))
    return f"{head} {values} FROM jsonb_array_elements(%s::jsonb)"


def _postgresql() -> ModuleType:
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - a gateway on SQLite does without

    return postgresql
