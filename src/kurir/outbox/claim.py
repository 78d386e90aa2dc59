"""The second verb: a lane takes the next messages of its number; the attempt is counted before the try.

Order: per recipient the message of the lowest priority number, then the oldest, is the only one that may be taken,
and nothing is taken for a recipient while one is in flight, or while an earlier one in doubt may go out once more. The
database refuses a second one in flight (`uq_messages_in_flight`).

A message with a picture or a file is taken only when the lane says that its file is there, or that it could not be
fetched (`ready`): until then it waits in the queue, so that a slow file server occupies no place in flight.

A claim runs in the shared writer, so it reads the number's first `WINDOW` messages only; a `deep` one reads all of
them, for messages that wait behind many which may not be taken.

`state = 'queued'` is checked again when the row is locked: of two claims at the same moment, one gets the message.
`+account_id` keeps SQLite from the account's index: only the indexes of waiting messages are short.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.numbers.numbers import Number
from kurir.outbox import record, wait_facts
from kurir.store.statements import Statement, json_array

WINDOW = 256
"""How many of a number's first messages a claim reads."""
_WITH_FILE = "kind IN ('image','document')"
_WITHOUT_FILE = "kind NOT IN ('image','document')"
_OF_NUMBER = "number_id = :number AND +account_id = :account AND state = 'queued'"
_NEXT = """
    +due_at <= :now
      AND NOT EXISTS (SELECT 1 FROM messages AS f
        WHERE f.number_id = :number AND f.recipient = m.recipient AND f.state = 'sending')
      AND NOT EXISTS (SELECT 1 FROM messages AS e
        WHERE e.number_id = :number AND e.recipient = m.recipient AND e.state IN ('queued','sending')
          AND e.priority < m.priority)
      AND NOT EXISTS (SELECT 1 FROM messages AS e
        WHERE e.number_id = :number AND e.recipient = m.recipient AND e.state IN ('queued','sending')
          AND e.priority = m.priority AND e.id < m.id)
      AND NOT EXISTS (
        SELECT 1 FROM messages AS d
        WHERE d.number_id = :number AND d.recipient = m.recipient AND d.doubt_until IS NOT NULL
          AND (d.priority < m.priority OR (d.priority = m.priority AND d.id < m.id)))
"""
"""Condition on messages `m`: it is their recipient's turn."""

_WINDOWED = f"""
first AS MATERIALIZED (
    SELECT id, recipient, priority, due_at FROM messages
    WHERE {_OF_NUMBER} AND {{kinds}} ORDER BY {{order}} LIMIT {WINDOW}),
turn AS MATERIALIZED (
    SELECT id AS next_id, priority, due_at FROM first AS m WHERE {_NEXT} ORDER BY {{order}} LIMIT :limit)
"""  # noqa: S608 - our own conditions
_DEEP = f"""
turn AS MATERIALIZED (
    SELECT id AS next_id, priority, due_at FROM messages AS m
    WHERE {_OF_NUMBER} AND {{kinds}} AND {_NEXT} ORDER BY {{order}} LIMIT :limit)
"""  # noqa: S608 - our own conditions
_READY = f"""
    UNION ALL SELECT id, priority FROM messages AS m
    WHERE id IN each(:ready) AND +number_id = :number AND +account_id = :account AND state = 'queued' AND {_NEXT}
"""  # noqa: S608 - our own conditions

_CLAIM = """
WITH {turn}, next AS MATERIALIZED (
    SELECT next_id FROM (SELECT next_id, priority FROM turn {ready}) AS any_kind
    ORDER BY priority, next_id LIMIT :limit)
UPDATE messages
SET state = CASE WHEN expires_at <= :now THEN 'expired' ELSE 'sending' END,
    attempts = CASE WHEN expires_at <= :now THEN attempts ELSE attempts + 1 END,
    ended_at = CASE WHEN expires_at <= :now THEN :now ELSE NULL END,
    content = CASE WHEN expires_at <= :now AND sealed = 1 THEN '' ELSE content END,
    error_code = CASE WHEN expires_at <= :now AND error_code = '' THEN 'expired' ELSE error_code END
FROM next WHERE id = next_id AND state = 'queued'
RETURNING id, account_id, number_id, recipient, content, sealed, typing, origin, attempts, created_at, expires_at,
    state, priority, messages.due_at
"""
_FILES_AHEAD = """
WITH {turn}
SELECT id, content, sealed FROM messages JOIN turn ON id = next_id WHERE expires_at > :now
ORDER BY turn.priority, turn.due_at, id
"""
_SENDING_ORDER = "priority, id"
_FETCHING_ORDER = "priority, due_at, id"
"""A file that is tried again comes after those that have not been tried yet."""


def _claim(*, deep: bool, ready: bool) -> Statement:
    turn = (_DEEP if deep else _WINDOWED).format(kinds=_WITHOUT_FILE, order=_SENDING_ORDER)
    return Statement(_CLAIM.format(turn=turn, ready=_READY if ready else ""))


_CLAIMS = {(deep, ready): _claim(deep=deep, ready=ready) for deep in (False, True) for ready in (False, True)}
_AHEAD = {
    deep: Statement(
        _FILES_AHEAD.format(turn=(_DEEP if deep else _WINDOWED).format(kinds=_WITH_FILE, order=_FETCHING_ORDER))
    )
    for deep in (False, True)
}

_STILL_QUEUED = Statement(
    "SELECT id FROM messages WHERE id IN each(:ids) AND +account_id = :account AND state = 'queued'"
)

_BEYOND = " OR ".join(
    f"(SELECT 1 FROM messages WHERE {_OF_NUMBER} AND {kinds} ORDER BY {order} LIMIT 1 OFFSET {WINDOW}) IS NOT NULL"  # noqa: S608
    for kinds, order in ((_WITHOUT_FILE, _SENDING_ORDER), (_WITH_FILE, _FETCHING_ORDER))
)
_LEFT = Statement(f"""
SELECT coalesce(
    (SELECT min(due_at) FROM messages WHERE {_OF_NUMBER} AND due_at > :now),
    (SELECT min(due_at) FROM messages WHERE {_OF_NUMBER})) AS due_at,
    (SELECT 1 FROM messages WHERE {_OF_NUMBER} AND {_WITH_FILE} ORDER BY {_FETCHING_ORDER} LIMIT 1) IS NOT NULL
        AS files,
    {_BEYOND} AS crowded
""")  # noqa: S608 - our own conditions

_EXPIRE = sa.text("""
UPDATE messages SET state = 'expired', ended_at = :now, content = CASE WHEN sealed = 1 THEN '' ELSE content END,
    error_code = CASE WHEN error_code = '' THEN 'expired' ELSE error_code END
WHERE id IN (SELECT id FROM messages WHERE state = 'queued' AND expires_at <= :now LIMIT 1000)
RETURNING id, account_id, number_id
""")

_ERASE_OLD_DOUBTS = sa.text("""
UPDATE messages SET content = '', doubt_until = NULL
WHERE doubt_until IS NOT NULL AND state = 'unconfirmed' AND sealed = 1 AND expires_at <= :now
""")
"""Holds an expired code in doubt as a lane would: its number may have no lane any more."""

_WAITING_NUMBERS = sa.text("""
SELECT +account_id AS account_id, number_id FROM messages WHERE state = 'queued'
UNION SELECT +account_id, number_id FROM messages WHERE state = 'sending'
UNION SELECT +account_id, number_id FROM messages WHERE doubt_until IS NOT NULL
""")

_COUNT_WAITING = sa.text("""
SELECT +account_id AS account_id, count(*) FROM messages WHERE state IN ('queued','sending') GROUP BY 1
""")


class Left(NamedTuple):
    """What waits in a number's queue.

    `due_at`: when the next queued message becomes due (unix seconds), None when nothing waits. A message that is due
    may wait behind another that is retried later: then that one's time counts. A past time means that all are due.
    `files`: messages with files wait; `crowded`: more messages wait than a claim reads.
    """

    due_at: float | None
    files: bool
    crowded: bool


class Taken(NamedTuple):
    """What the transaction of a claim did. `complete`: False when it has to be repeated, as it did only a part."""

    number: Number | None
    rows: Sequence[Any] = ()
    trials: Collection[int] = ()
    left: Left | None = None
    held: bool = True
    complete: bool = True


def claim(
    connection: Connection,
    account_id: int,
    number_id: int,
    limit: int,
    now: float,
    *,
    ready: Collection[int],
    deep: bool,
) -> list[Any]:
    """Takes up to `limit` messages; rows come back in sending order, with their new state (sending or expired).

    `ready`: messages with files that may be taken. `deep`: looks beyond the first `WINDOW` messages.
    """
    parameters: dict[str, Any] = {"account": account_id, "number": number_id, "limit": limit, "now": now}
    if ready:
        parameters["ready"] = json_array(ready)
    rows = _CLAIMS[deep, bool(ready)].all(connection, **parameters)
    expired = [row for row in rows if row.state == "expired"]
    if expired:
        wait_facts.explain_expired(connection, expired, now)
    for row in expired:
        record.ended(connection, row.account_id, row.id, "queued", now)
    return sorted(rows, key=lambda row: (row.priority, row.id))


def files_ahead(connection: Connection, account_id: int, number_id: int, now: float, *, deep: bool) -> list[Any]:
    """Up to `WINDOW` of the number's next messages with files: id, content, sealed. `deep` as for `claim`."""
    return _AHEAD[deep].all(connection, account=account_id, number=number_id, limit=WINDOW, now=now)


def still_queued(connection: Connection, account_id: int, ids: Collection[int]) -> set[int]:
    """Those of the account's messages that are queued."""
    if not ids:
        return set()
    return {row.id for row in _STILL_QUEUED.all(connection, account=account_id, ids=json_array(ids))}


def left(connection: Connection, account_id: int, number_id: int, now: float) -> Left:
    """What waits in the number's queue."""
    row = _LEFT.first(connection, account=account_id, number=number_id, now=now)
    return Left(row.due_at, bool(row.files), bool(row.crowded))


def expire(connection: Connection, now: float) -> list[Any]:
    """Ends queued messages whose time is over, up to 1,000 at once; returns rows of id, account_id and number_id.

    One-time passwords in doubt whose time is over are held, without their text.
    """
    connection.execute(_ERASE_OLD_DOUBTS, {"now": now})
    rows = list(connection.execute(_EXPIRE, {"now": now}).fetchall())
    wait_facts.explain_expired(connection, rows, now)
    for row in rows:
        record.ended(connection, row.account_id, row.id, "queued", now)
    return rows


def waiting_numbers(connection: Connection) -> list[tuple[int, int]]:
    """Every (account, number) with messages that are queued, were left in flight, or may go out once more."""
    return [(row[0], row[1]) for row in connection.execute(_WAITING_NUMBERS)]


def count_waiting(connection: Connection) -> list[tuple[int, int]]:
    """Every account that has messages queued or in flight, with their number."""
    return [(row[0], row[1]) for row in connection.execute(_COUNT_WAITING)]
