"""Statements that run for every message, straight on the database's driver.

SQLAlchemy builds and compiles an expression each time it is executed, which costs more than the query itself. A
`Statement` is compiled once for each database; it then runs on the driver's connection beneath SQLAlchemy's, in the
same transaction. Its errors are SQLAlchemy's own, so that nobody has to know which way a statement took.

For everything that is not done once per message (lists, commands, migrations), use SQLAlchemy.
"""

from __future__ import annotations

import json
import re
from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import Connection, exc
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine.interfaces import Dialect


def _dialect(name: str) -> Dialect:
    # both drivers take their parameters by name
    if name == "sqlite":
        return cast("Dialect", sqlite.dialect(paramstyle="named"))
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - a gateway on SQLite does without

    return cast("Dialect", postgresql.psycopg.dialect())


_EACH = re.compile(r"\beach(_text)?\((:\w+)\)")


def json_array(values: Iterable[int] | Iterable[str]) -> str:
    """A list as a parameter of a statement, for `each`."""
    return json.dumps(list(values))


def _elements(match: re.Match[str], name: str) -> str:
    """The elements of a list parameter, in the SQL of a database."""
    kind, parameter = match.groups()
    if name == "sqlite":
        return f"(SELECT value FROM json_each({parameter}))"  # noqa: S608 - a parameter's name
    kind = "text" if kind else "bigint"
    return f"(SELECT CAST(value AS {kind}) FROM jsonb_array_elements_text(CAST({parameter} AS jsonb)))"  # noqa: S608


class Statement:
    """A statement with parameters by name, written as SQL (`:name`) that both databases understand, or as an expression
    of SQLAlchemy's. A list is one parameter, a `json_array`: `id IN each(:ids)` for integers, `each_text` for texts.

    Errors are raised as SQLAlchemy raises them.
    """

    def __init__(self, source: str | sa.ClauseElement, **of_database: str) -> None:
        """`of_database`: SQL for one database in place of `source`, by the name of its dialect."""
        self._source = source
        self._of_database = of_database
        self._compiled: dict[str, tuple[str, dict[str, Any]]] = {}
        self._row: Callable[[Sequence[Any]], Any] | None = None

    def all(self, connection: Connection, **parameters: Any) -> list[Any]:
        """All rows, whose columns are attributes."""
        cursor = self._run(connection, parameters)
        rows = _fetched(connection, cursor.fetchall)
        if not rows:
            return rows
        row = self._row or self._row_of(cursor.description)
        return [row(values) for values in rows]

    def first(self, connection: Connection, **parameters: Any) -> Any:
        """The first row, or None."""
        cursor = self._run(connection, parameters)
        values = _fetched(connection, cursor.fetchone)
        row = values if values is None else (self._row or self._row_of(cursor.description))(values)
        cursor.close()
        return row

    def scalar(self, connection: Connection, **parameters: Any) -> Any:
        """The first column of the first row, or None."""
        cursor = self._run(connection, parameters)
        values = _fetched(connection, cursor.fetchone)
        cursor.close()
        return None if values is None else values[0]

    def change(self, connection: Connection, **parameters: Any) -> int:
        """Runs a change; returns how many rows it changed."""
        return self._run(connection, parameters).rowcount

    # -- inside ----------------------------------------------------------------------------------------------------

    def _run(self, connection: Connection, parameters: dict[str, Any]) -> Any:
        name = connection.dialect.name
        compiled = self._compiled.get(name) or self._compile(name)
        text, constants = compiled
        if constants:
            parameters = constants | parameters
        return run(connection, text, parameters)

    def _compile(self, name: str) -> tuple[str, dict[str, Any]]:
        source = self._of_database.get(name, self._source)
        if isinstance(source, str):
            source = sa.text(_EACH.sub(lambda match: _elements(match, name), source))
        compiled = source.compile(dialect=_dialect(name))
        # what the expression itself sets, such as state='sending'
        constants = {key: value for key, value in (compiled.params or {}).items() if value is not None}
        self._compiled[name] = (str(compiled).strip(), constants)
        return self._compiled[name]

    def _row_of(self, description: Sequence[Sequence[Any]]) -> Callable[[Sequence[Any]], Any]:
        names = [str(column[0]) for column in description]
        self._row = namedtuple("Row", names, rename=True)._make  # pyright: ignore[reportUntypedNamedTuple]
        return self._row


def run(connection: Connection, text: str, parameters: Any = ()) -> Any:
    """Runs a driver's own SQL on its connection; returns its cursor. Raises DBAPIError.

    Listeners of SQLAlchemy's `before_cursor_execute` see it as any other statement.
    """
    for listener in connection.dispatch.before_cursor_execute:
        listener(connection, _driver(connection).cursor(), text, parameters, None, False)
    try:
        return _driver(connection).execute(text, parameters)
    except Exception as error:
        raise _as_sqlalchemy(connection, error, text) from error


def _driver(connection: Connection) -> Any:
    return connection.connection.dbapi_connection


def _fetched(connection: Connection, fetch: Callable[[], Any]) -> Any:
    try:
        return fetch()
    except Exception as error:
        raise _as_sqlalchemy(connection, error, None) from error


def _as_sqlalchemy(connection: Connection, error: Exception, text: str | None) -> Exception:
    """A driver's error as SQLAlchemy would raise it; other errors as they are. A lost connection is invalidated."""
    dialect = connection.dialect
    driver = dialect.loaded_dbapi
    if not isinstance(error, driver.Error):
        return error
    lost = dialect.is_disconnect(error, connection.connection.dbapi_connection, None)
    if lost:
        connection.invalidate(error)
    return exc.DBAPIError.instance(
        text, None, error, driver.Error, hide_parameters=True, connection_invalidated=lost, dialect=dialect
    )
