"""The first verb: stores messages in the queue, in one durable transaction with all that belongs to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from kurir.kit import crash_points
from kurir.kit.sealing import Sealing
from kurir.messages.content import kind_of
from kurir.outbox.message_rows import Draft, encode_content
from kurir.outbox.tables import messages
from kurir.store.database import Batch

_COLUMNS = (
    "id",
    "account_id",
    "number_id",
    "recipient",
    "kind",
    "content",
    "sealed",
    "typing",
    "priority",
    "origin",
    "broadcast_id",
    "created_at",
    "due_at",
    "expires_at",
)
INSERT = Batch(messages, _COLUMNS)


def row_of(sealing: Sealing, message_id: int, draft: Draft, now: float, lifetime: float) -> tuple[Any, ...]:
    """A draft as a row of `INSERT`."""
    return (
        message_id,
        draft.account_id,
        draft.number_id,
        draft.recipient,
        kind_of(draft.content),
        encode_content(sealing, message_id, draft.content, draft.sealed),
        int(draft.sealed),
        int(draft.typing),
        draft.priority,
        draft.origin,
        draft.broadcast_id,
        now,
        now,
        now + (lifetime if draft.lifetime is None else draft.lifetime),
    )


def insert(connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
    """Inserts rows within a transaction that the caller owns."""
    INSERT.insert(connection, rows)
    crash_points.reach("accept.inserted")
