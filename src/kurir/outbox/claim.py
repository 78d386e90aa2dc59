"""The second verb: a lane takes the next messages of its number; the attempt is counted before the try.

Order: per recipient the message of the lowest priority number, then the oldest, is the only one that may be taken,
and nothing is taken for a recipient while one is in flight, or while an earlier one in doubt may go out once more. The
database refuses a second one in flight (`uq_messages_in_flight`).

A message with a picture or a file may be taken once its file is there, or once the fetch has failed (`answered`): until
then it waits in the queue, and whoever is slow to serve the file keeps no place in flight.

`state = was` is looked at again when the row is locked: of two claims at the same moment, one gets the message.
`+account_id` keeps SQLite from the account's index: only the indexes of waiting messages are short.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.outbox import record, waiting_facts

FILES_AHEAD = 32
"""How many of a number's next messages with files are fetched ahead of their sends."""

_NEXT = """
    m.number_id = :number AND +m.account_id = :account AND m.state = 'queued' AND m.due_at <= :now
      AND NOT EXISTS (
        SELECT 1 FROM messages AS e
        WHERE e.number_id = :number AND e.recipient = m.recipient AND e.state IN ('queued','sending')
          AND (e.state = 'sending' OR e.priority < m.priority OR (e.priority = m.priority AND e.id < m.id))
      )
      AND NOT EXISTS (
        SELECT 1 FROM messages AS d
        WHERE d.number_id = :number AND d.recipient = m.recipient AND d.doubt_until IS NOT NULL
          AND (d.priority < m.priority OR (d.priority = m.priority AND d.id < m.id))
      )
"""
"""The messages `m` whose turn it is with their recipient."""

_FILE_IS_THERE = "m.kind NOT IN ('image','document') OR EXISTS (SELECT 1 FROM media AS f WHERE f.message_id = m.id)"
_CLAIM = """
WITH next AS MATERIALIZED (
    SELECT m.id AS next_id, m.state AS was FROM messages AS m
    WHERE {next} AND ({file})
    ORDER BY m.priority, m.id LIMIT :limit)
UPDATE messages
SET state = CASE WHEN expires_at <= :now THEN 'expired' ELSE 'sending' END,
    attempts = CASE WHEN expires_at <= :now THEN attempts ELSE attempts + 1 END,
    ended_at = CASE WHEN expires_at <= :now THEN :now ELSE NULL END,
    content = CASE WHEN expires_at <= :now AND sealed = 1 THEN '' ELSE content END,
    error_code = CASE WHEN expires_at <= :now AND error_code = '' THEN 'expired' ELSE error_code END
FROM next WHERE id = next_id AND state = was
RETURNING id, account_id, number_id, recipient, content, sealed, typing, origin, attempts, created_at, expires_at,
    state, priority
"""
_CLAIM_FETCHED = sa.text(_CLAIM.format(next=_NEXT, file=_FILE_IS_THERE))
_CLAIM_ANSWERED = sa.text(_CLAIM.format(next=_NEXT, file=f"{_FILE_IS_THERE} OR m.id IN :answered")).bindparams(
    sa.bindparam("answered", expanding=True)
)

_FILES_AHEAD = sa.text(f"""
WITH ahead AS MATERIALIZED (
    SELECT m.id, m.content, m.sealed FROM messages AS m
    WHERE {_NEXT} AND m.kind IN ('image','document') AND m.expires_at > :now
    ORDER BY m.priority, m.id LIMIT :limit)
SELECT id, content, sealed FROM ahead WHERE NOT EXISTS (SELECT 1 FROM media AS f WHERE f.message_id = ahead.id)
""")  # noqa: S608 - our own conditions

_NEXT_DUE = sa.text("""
SELECT coalesce(
    (SELECT min(due_at) FROM messages
     WHERE number_id = :number AND +account_id = :account AND state = 'queued' AND due_at > :now),
    (SELECT min(due_at) FROM messages WHERE number_id = :number AND +account_id = :account AND state = 'queued'))
""")

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
"""A code in doubt whose time is over is held like one that a lane has judged; its number may have no lane any more."""

_WAITING_NUMBERS = sa.text("""
SELECT +account_id AS account_id, number_id FROM messages WHERE state = 'queued'
UNION SELECT +account_id, number_id FROM messages WHERE state = 'sending'
UNION SELECT +account_id, number_id FROM messages WHERE doubt_until IS NOT NULL
""")

_COUNT_WAITING = sa.text("""
SELECT +account_id AS account_id, count(*) FROM messages WHERE state IN ('queued','sending') GROUP BY 1
""")


def claim(
    connection: Connection, account_id: int, number_id: int, limit: int, now: float, *, answered: Collection[int] = ()
) -> list[Any]:
    """Takes up to `limit` messages; rows come back in sending order, with their new state (sending or expired).

    `answered`: messages that may be taken although their file is not there.
    """
    parameters: dict[str, Any] = {"account": account_id, "number": number_id, "limit": limit, "now": now}
    if answered:
        rows = connection.execute(_CLAIM_ANSWERED, parameters | {"answered": list(answered)}).fetchall()
    else:
        rows = connection.execute(_CLAIM_FETCHED, parameters).fetchall()
    waiting_facts.explain_expired(connection, [row for row in rows if row.state == "expired"], now)
    for row in rows:
        if row.state == "expired":
            record.ended(connection, row.account_id, row.id, "queued", now)
    return sorted(rows, key=lambda row: (row.priority, row.id))


def next_due(connection: Connection, account_id: int, number_id: int, now: float) -> float | None:
    """When the number's next queued message becomes due (unix seconds), or None when nothing waits.

    Of messages that are due already but not for the taking, one may wait behind another that is tried again later: that
    one's time counts. A time that is past means that all are due.
    """
    return connection.execute(_NEXT_DUE, {"account": account_id, "number": number_id, "now": now}).scalar()


def files_ahead(connection: Connection, account_id: int, number_id: int, now: float) -> list[Any]:
    """Of the number's next `FILES_AHEAD` messages with files those whose file is not there: id, content, sealed."""
    parameters = {"account": account_id, "number": number_id, "limit": FILES_AHEAD, "now": now}
    return list(connection.execute(_FILES_AHEAD, parameters))


def expire(connection: Connection, now: float) -> list[Any]:
    """Ends queued messages whose time is over, up to 1,000 at once; returns rows of id, account_id and number_id.

    One-time passwords in doubt whose time is over are held, without their text.
    """
    connection.execute(_ERASE_OLD_DOUBTS, {"now": now})
    rows = list(connection.execute(_EXPIRE, {"now": now}).fetchall())
    waiting_facts.explain_expired(connection, rows, now)
    for row in rows:
        record.ended(connection, row.account_id, row.id, "queued", now)
    return rows


def waiting_numbers(connection: Connection) -> list[tuple[int, int]]:
    """Every (account, number) with messages that are queued, were left in flight, or may go out once more."""
    return [(row[0], row[1]) for row in connection.execute(_WAITING_NUMBERS)]


def count_waiting(connection: Connection) -> list[tuple[int, int]]:
    """Every account that has messages queued or in flight, with their number."""
    return [(row[0], row[1]) for row in connection.execute(_COUNT_WAITING)]
