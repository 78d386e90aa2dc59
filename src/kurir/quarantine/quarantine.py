"""The quarantine stores items that could not be processed after several attempts, so that their queues can go on.

Every durable queue follows one rule: an item that fails several times is stored here with the reason and leaves its
queue. `kurir quarantine` lists, replays and discards entries.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy import Connection

from kurir.kit.log_limit import LogLimit
from kurir.messages import bounds
from kurir.messages.channel_reports import Quarantined
from kurir.quarantine.tables import quarantine
from kurir.reasons import read, stored
from kurir.reasons.replays import ENTRY_CUT
from kurir.store.chunked_deletes import removed
from kurir.store.database import Database
from kurir.store.inserts import insert_into
from kurir.store.transaction_end import at_end

Queue = Literal["journal", "inbox", "callback", "outbox", "webhook", "template"]
"""The queues whose items can be quarantined.

journal: received by a linked device, unreadable or crashed its reader · inbox: an event that could not be stored ·
callback: a change in a signed callback of Meta · outbox: a message that could not be decoded or attempted · webhook: a
delivery that could not be built or recorded · template: a template of Meta's that could not be adopted.
"""
QUEUES: tuple[Queue, ...] = get_args(Queue)
LARGEST = 1_000_000
"""Maximum bytes of a stored payload. Input of strangers can be larger, and must not fill the disk."""
MOST = 10_000
"""Maximum entries of an account; beyond it those that failed longest ago are removed."""
_CUT_REASON = 250
"""Characters of the reason that a cut payload's entry keeps: the whole fits into its column, also as JSON."""
_TRIMMED = 100
"""One entry in so many is removed in addition, so that a full quarantine is not cleaned up for each new one."""

_FULL = LogLimit(600.0)

log = structlog.get_logger(__name__)


class Entry(msgspec.Struct, frozen=True):
    """One quarantined item; `account_id` and `number_id` are 0 when they are unknown, `reason` as `stored` wrote it."""

    id: int
    account_id: int
    number_id: int
    queue: str
    reference: str
    reason: str
    payload: bytes
    stored_at: float

    @property
    def is_cut(self) -> bool:
        """Whether the payload is truncated."""
        return len(self.payload) >= LARGEST


class Line(msgspec.Struct, frozen=True):
    """An entry in a list: without its payload, of which `size` is the number of bytes."""

    id: int
    account_id: int
    number_id: int
    queue: str
    reference: str
    reason: str
    size: int
    stored_at: float


_COLUMNS = [quarantine.c[name] for name in Entry.__struct_fields__]
_LINE = [
    sa.func.length(quarantine.c.payload).label("size") if name == "size" else quarantine.c[name]
    for name in Line.__struct_fields__
]


def add(connection: Connection, what: Quarantined, now: float) -> None:
    """Stores an entry; an existing one (same queue, number and reference) gets the newer reason.

    A payload of `LARGEST` bytes or more is cut, which the reason says. When the transaction leaves an account with more
    than `MOST` entries, those that failed longest ago are removed at its end.
    """
    reason, payload = what.reason, what.payload
    if len(payload) >= LARGEST:
        short = read(reason).shortened(_CUT_REASON)
        reason = stored(ENTRY_CUT(kept=LARGEST, size=len(payload), reason=short))
        payload = payload[:LARGEST]
    row = insert_into(connection, quarantine).values(
        account_id=what.account_id,
        number_id=what.number_id,
        queue=what.queue,
        reference=bounds.identifier(what.reference),
        reason=bounds.text(reason, bounds.REASON),
        payload=payload,
        stored_at=now,
    )
    connection.execute(
        row.on_conflict_do_update(
            index_elements=[quarantine.c.queue, quarantine.c.number_id, quarantine.c.reference],
            set_={"reason": row.excluded.reason, "payload": row.excluded.payload, "stored_at": row.excluded.stored_at},
        )
    )
    account_id = what.account_id
    at_end(connection, ("quarantine", account_id), lambda c: _remove_oldest(c, account_id, now))


def _remove_oldest(connection: Connection, account_id: int, now: float) -> None:
    """Removes the oldest entries of an account that has more than `MOST`."""
    of_account = quarantine.c.account_id == account_id
    # not by the id alone: an entry that failed again keeps its id
    age = sa.tuple_(quarantine.c.stored_at, quarantine.c.id)
    newest = sa.select(quarantine.c.stored_at, quarantine.c.id).where(of_account)
    newest = newest.order_by(quarantine.c.stored_at.desc(), quarantine.c.id.desc())
    if connection.execute(newest.offset(MOST).limit(1)).first() is None:
        return
    last = connection.execute(newest.offset(MOST - MOST // _TRIMMED).limit(1)).one()
    gone = connection.execute(quarantine.delete().where(of_account, age <= sa.tuple_(*last))).rowcount
    if _FULL.is_due(account_id, now):
        log.error("quarantine_full", account_id=account_id, removed=gone, most=MOST)


def lines(connection: Connection, account_id: int | None = None, *, before: int = 0, limit: int = 100) -> list[Line]:
    """Entries, newest first, of one account or of all; `before` is the id of the last one of the previous page."""
    query = sa.select(*_LINE).order_by(quarantine.c.id.desc()).limit(limit)
    if account_id is not None:
        query = query.where(quarantine.c.account_id == account_id)
    if before:
        query = query.where(quarantine.c.id < before)
    return [Line(*row) for row in connection.execute(query)]


def by_id(connection: Connection, entry_id: int) -> Entry | None:
    """One entry, or None."""
    row = connection.execute(sa.select(*_COLUMNS).where(quarantine.c.id == entry_id)).first()
    return Entry(*row) if row else None


def remove(connection: Connection, entry_id: int, *, stored_at: float | None = None) -> bool:
    """Deletes an entry that was replayed or discarded; False when it did not exist.

    With `stored_at` only the entry as stored at that time: one that failed again meanwhile was stored again, and stays.
    """
    entry = quarantine.delete().where(quarantine.c.id == entry_id)
    if stored_at is not None:
        entry = entry.where(quarantine.c.stored_at == stored_at)
    return connection.execute(entry).rowcount > 0


def counts(connection: Connection) -> dict[str, int]:
    """Number of entries in each queue; every queue has a key."""
    rows = connection.execute(sa.select(quarantine.c.queue, sa.func.count()).group_by(quarantine.c.queue))
    found: dict[str, int] = {row[0]: row[1] for row in rows}
    return {queue: found.get(queue, 0) for queue in QUEUES}


async def forget(database: Database, before: float) -> int:
    """Deletes entries stored before that unix time in chunks; returns how many. Raises DatabaseUnavailable."""

    def find(connection: Connection, _cursor: object, limit: int) -> tuple[list[int], bool | None]:
        rows = sa.select(quarantine.c.id).where(quarantine.c.stored_at < before).order_by(quarantine.c.stored_at)
        ids = list(connection.execute(rows.limit(limit)).scalars())
        return ids, True if len(ids) == limit else None

    def remove(connection: Connection, ids: list[int]) -> int:
        # one that was stored again since it was found has its new time
        gone = quarantine.delete().where(quarantine.c.id.in_(ids), quarantine.c.stored_at < before)
        return connection.execute(gone).rowcount

    return sum([count async for count in removed(database, find, remove)])
