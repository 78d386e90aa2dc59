"""Counts what SQLite is asked for in every database opened meanwhile: for tests and `kurir bench` only.

It listens to the driver, so that it counts the same whatever library writes the statements. What a statement counts as
follows from the thread that runs it: the writer's, a reader's (each read is a hop to that thread and back), or the
event loop's.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from sqlalchemy import Pool, event

_CONTROL = frozenset({"BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"})
_SETTING = "PRAGMA"
_OF_TRIGGER = "--"


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted. `transactions`: commits, each with a flush of its own; `statements`: without those that only
    control transactions, which are `control`; `reads`: snapshots taken and single statements run in readers' threads;
    `on_loop`: of the statements those that the event loop's thread ran."""

    transactions: int = 0
    statements: int = 0
    control: int = 0
    reads: int = 0
    on_loop: int = 0

    def since(self, before: Counted) -> Counted:
        """What was counted between the two."""
        return Counted(*(getattr(self, f.name) - getattr(before, f.name) for f in fields(self)))


class StatementCounts:
    """The counts so far; `now` gives a copy. Made in the event loop's thread."""

    def __init__(self) -> None:
        self._loop = threading.get_ident()
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def now(self) -> Counted:
        """What has been counted so far."""
        with self._lock:
            return Counted(**self._counts)

    def watch(self, connection: sqlite3.Connection) -> None:
        """Counts what this connection is asked for from now on."""
        in_transaction = False

        def count(statement: str) -> None:
            nonlocal in_transaction
            first = statement.lstrip()[:9].split(" ", 1)[0].rstrip(";").upper()
            if first == _SETTING or first.startswith(_OF_TRIGGER):
                return
            reading = threading.current_thread().name.startswith("db-read")
            with self._lock:
                if reading and (first == "BEGIN" or (first not in _CONTROL and not in_transaction)):
                    self._counts["reads"] += 1
                if first in _CONTROL:
                    self._counts["control"] += 1
                    self._counts["transactions"] += first in {"COMMIT", "END"}
                else:
                    self._counts["statements"] += 1
                    self._counts["on_loop"] += threading.get_ident() == self._loop
            if first in {"BEGIN", "COMMIT", "END", "ROLLBACK"}:
                in_transaction = first == "BEGIN"  # `ROLLBACK TO` ends none, but no reader has savepoints

        connection.set_trace_callback(count)


@contextmanager
def counting() -> Generator[StatementCounts]:
    """Counts on every SQLite connection that is opened within the block."""
    counts = StatementCounts()

    def connected(connection: object, _record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            counts.watch(connection)

    event.listen(Pool, "connect", connected)
    try:
        yield counts
    finally:
        event.remove(Pool, "connect", connected)
