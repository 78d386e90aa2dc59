"""Inserts that both databases understand: many rows in one statement, and conflicts with existing rows.

A `Batch` sends all its rows as one JSON array: one parameter, one parse, one release of the interpreter's lock, however
many rows. SQLite unpacks the array with `json_each`, PostgreSQL with `jsonb_array_elements`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import sqlite

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
        self._types = [table.c[name].type for name in columns]
        self._head = f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT"
        self._sql: dict[str, str] = {}

    def insert(self, connection: Connection, rows: Sequence[Sequence[Any] | msgspec.Raw]) -> None:
        """Inserts the rows, each in the order of the columns (or as a JSON array of them), within the caller's
        transaction."""
        array = _encode(rows).decode()
        if connection.dialect.name == "postgresql" and "\\u0000" in array:
            array = _NUL.sub(r"\1" + NUL_STANDS_FOR, array)
        connection.exec_driver_sql(self._statement(connection.dialect), (array,))

    def _statement(self, dialect: sa.Dialect) -> str:
        sql = self._sql.get(dialect.name)
        if sql is None:
            values = [f"value->>{i}" for i in range(len(self._types))]
            if dialect.name == "sqlite":
                sql = f"{self._head} {', '.join(values)} FROM json_each(?)"
            else:
                types = [type_.compile(dialect) for type_ in self._types]
                typed = (f"({value})::{type_}" for value, type_ in zip(values, types, strict=True))
                sql = f"{self._head} {', '.join(typed)} FROM jsonb_array_elements(%s::jsonb)"
            self._sql[dialect.name] = sql
        return sql


def insert_into(connection: Connection, table: sa.Table) -> postgresql.Insert:
    """An insert with `on_conflict_do_nothing` and `on_conflict_do_update`, in the dialect of the connection's
    database."""
    if connection.dialect.name == "sqlite":
        return cast("postgresql.Insert", sqlite.insert(table))  # both have the same methods
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - 2.5 MB that a gateway on SQLite never needs

    return postgresql.insert(table)
