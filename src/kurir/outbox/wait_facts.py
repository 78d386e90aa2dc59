"""The facts from which `waiting` decides what messages wait for, read from the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.outbox.tables import messages
from kurir.outbox.wait_reasons import Ahead, Facts, Waiting, reason_of, waiting_for
from kurir.reasons import read, stored
from kurir.reasons.waiting import ENDED

_AT_ONCE = 500

_FACTS = sa.text("""
SELECT m.id, m.number_id, m.state, m.due_at, m.error_code, m.error_reason, m.doubt_until,
    CASE WHEN m.kind IN ('image','document') AND NOT EXISTS (SELECT 1 FROM media AS f WHERE f.message_id = m.id)
        THEN 1 ELSE 0 END AS file_missing,
    CASE WHEN m.state <> 'queued' THEN ''
        WHEN EXISTS (
            SELECT 1 FROM messages AS e WHERE e.number_id = m.number_id AND e.recipient = m.recipient
            AND e.state IN ('queued','sending') AND e.id <> m.id
            AND (e.state = 'sending' OR e.priority < m.priority OR (e.priority = m.priority AND e.id < m.id))
        ) THEN 'message'
        WHEN EXISTS (
            SELECT 1 FROM messages AS d WHERE d.number_id = m.number_id AND d.recipient = m.recipient
            AND d.doubt_until IS NOT NULL
            AND (d.priority < m.priority OR (d.priority = m.priority AND d.id < m.id))
        ) THEN 'doubt'
        ELSE '' END AS ahead
FROM messages AS m
WHERE m.account_id = :account AND m.id IN :ids AND m.state IN ('queued','sending','unconfirmed')
""").bindparams(sa.bindparam("ids", expanding=True))


def facts(connection: Connection, account_id: int, ids: Sequence[int]) -> dict[int, Facts]:
    """The facts of those of the account's messages that have not ended; the others are left out."""
    found: dict[int, Facts] = {}
    senders: dict[int, Number | None] = {}
    for first in range(0, len(ids), _AT_ONCE):
        chunk = list(ids[first : first + _AT_ONCE])
        for row in connection.execute(_FACTS, {"account": account_id, "ids": chunk}).all():
            if row.number_id not in senders:
                senders[row.number_id] = numbers.by_id(connection, account_id, row.number_id)
            found[row.id] = _facts(row, senders[row.number_id])
    return found


def _facts(row: Any, number: Number | None) -> Facts:
    ahead: Ahead = row.ahead
    return Facts(
        number=number,
        message=row.state,
        due_at=row.due_at,
        ahead=ahead,
        code=row.error_code,
        last=read(row.error_reason),
        file_missing=bool(row.file_missing),
        may_resend=row.doubt_until is not None,
    )


def reasons(connection: Connection, account_id: int, ids: Sequence[int], now: float) -> dict[int, Waiting]:
    """What each of the account's messages waits for, by the number's stored state; ended ones are left out."""
    return {key: waiting_for(known, now) for key, known in facts(connection, account_id, ids).items()}


def explain_expired(connection: Connection, rows: Sequence[Any], now: float) -> None:
    """Writes what expired messages (rows of id, account_id, number_id) waited for, where no try left a reason."""
    grouped: dict[tuple[int, int], list[int]] = {}
    for row in rows:
        grouped.setdefault((row.account_id, row.number_id), []).append(row.id)
    for (account_id, number_id), ids in grouped.items():
        waited = waiting_for(Facts(number=numbers.by_id(connection, account_id, number_id)), now)
        connection.execute(
            sa.update(messages)
            .where(messages.c.account_id == account_id, messages.c.id.in_(ids), messages.c.error_reason == "")
            .values(error_reason=stored(ENDED(cause=reason_of(waited))))
        )
