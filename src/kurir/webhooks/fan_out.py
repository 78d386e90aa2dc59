"""From the event log to deliveries: each endpoint is a reader with a cursor of its own (`after_event`).

One statement turns an account's new events into deliveries for the endpoints that want them, in the order of the log,
and the cursors move in the same transaction: a crash neither skips an event nor doubles one. The account's endpoints
are locked meanwhile, so that two processes never do it for one account at once.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.events.tables import events
from kurir.store.statements import Statement
from kurir.webhooks.tables import webhook_endpoints

MOST = 500
"""Events of one account in one transaction."""

_p = webhook_endpoints.c
_READS = (_p.state == "active", _p.removed_at.is_(None))
UNREAD = (
    sa.select(_p.id)
    .where(_p.account_id == events.c.account_id, _p.after_event < events.c.id, *_READS)
    .correlate(events)
    .exists()
)
"""Condition on a row of `events`: an endpoint's cursor is before it."""
_BEHIND = Statement(
    sa.select(_p.account_id)
    .where(
        *_READS,
        sa.select(events.c.id)
        .where(events.c.account_id == _p.account_id, events.c.id > _p.after_event)
        .correlate(webhook_endpoints)
        .exists(),
    )
    .distinct()
)
_HOLD = Statement(
    sa.select(_p.after_event)
    .where(_p.account_id == sa.bindparam("account"), *_READS)
    .order_by(_p.id)
    .with_for_update(key_share=True)
)
_LAST = Statement("""
SELECT max(id) FROM (
    SELECT id FROM events WHERE account_id = :account AND id > :first ORDER BY id LIMIT :most) AS next_ones
""")
# of one chat only the first is due at once: the others wait until it is delivered
_DELIVER = Statement("""
INSERT INTO webhook_deliveries (account_id, endpoint_id, event_id, number_id, chat, state, due_at, created_at)
SELECT e.account_id, p.id, e.id, e.number_id, e.chat,
    CASE WHEN row_number() OVER (PARTITION BY p.id, e.number_id, e.chat ORDER BY e.id) > 1 OR EXISTS (
        SELECT 1 FROM webhook_deliveries d
        WHERE d.endpoint_id = p.id AND d.number_id = e.number_id AND d.chat = e.chat AND d.in_order = 1
            AND d.state IN ('waiting', 'pending', 'sending')
    ) THEN 'waiting' ELSE 'pending' END,
    e.created_at, e.created_at
FROM events e JOIN webhook_endpoints p ON p.account_id = e.account_id
WHERE e.account_id = :account AND e.id > :first AND e.id <= :last AND e.id > p.after_event
    AND p.state = 'active' AND p.removed_at IS NULL
    AND e.number_id IS NOT NULL AND (p.number_id IS NULL OR p.number_id = e.number_id)
    AND replace(p.events, '"' || e.type || '"', '') <> p.events
ORDER BY e.id, p.id
""")
_MOVE = Statement(
    webhook_endpoints.update()
    .where(_p.account_id == sa.bindparam("account"), _p.after_event < sa.bindparam("last"), *_READS)
    .values(after_event=sa.bindparam("last"))
)


def behind(connection: Connection) -> list[int]:
    """The accounts with events after an active endpoint's cursor."""
    return [row.account_id for row in _BEHIND.all(connection)]


def fan_out(connection: Connection, account_id: int, most: int = MOST) -> bool:
    """Makes deliveries of an account's next events; returns whether there may be more."""
    cursors = [row.after_event for row in _HOLD.all(connection, account=account_id)]
    if not cursors:
        return False
    which = {"account": account_id, "first": min(cursors)}
    last = _LAST.scalar(connection, most=most, **which)
    if last is None:
        return False
    _DELIVER.change(connection, last=last, **which)
    _MOVE.change(connection, account=account_id, last=last)
    return True
