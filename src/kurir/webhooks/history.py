"""Past deliveries of webhooks: lists, replays and removes them."""

from __future__ import annotations

from typing import Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.events.tables import events
from kurir.store.chunked_deletes import removed
from kurir.store.database import Database
from kurir.webhooks.deliveries import repair
from kurir.webhooks.fan_out import UNREAD
from kurir.webhooks.tables import webhook_attempts, webhook_deliveries, webhook_endpoints

DeliveryState = Literal["waiting", "pending", "sending", "delivered", "failed", "canceled"]
_d = webhook_deliveries.alias("d")

NEEDED = (sa.select(_d.c.id).where(_d.c.event_id == events.c.id).correlate(events).exists(), UNREAD)
"""Conditions on a row of `events`: it has stored deliveries; it is still to be given to an endpoint."""


class DeliveryRecord(msgspec.Struct, frozen=True):
    """One delivery as shown to people; `status` and `reason` are of the last try (0 and "": none yet)."""

    event_key: str
    event_type: str
    endpoint_key: str
    state: DeliveryState
    attempts: int
    due_at: float
    created_at: float
    status: int
    reason: str


def replay_event(connection: Connection, account_id: int, event_key: str, now: float) -> int:
    """Delivers one event again, also one that was delivered; returns to how many active endpoints."""
    chosen = sa.select(events.c.id).where(events.c.account_id == account_id, events.c.key == event_key)
    return _replay(connection, account_id, [_d.c.event_id.in_(chosen)], now)


def replay_failed(connection: Connection, account_id: int, since: float, now: float) -> int:
    """Delivers again what failed since that time (unix seconds), in order; returns how many deliveries."""
    return _replay(connection, account_id, [_d.c.state == "failed", _d.c.ended_at >= since], now)


def replay_delivery(connection: Connection, account_id: int, delivery_id: int, now: float) -> int:
    """Delivers one delivery again; returns how many (0: it or its active endpoint is gone)."""
    return _replay(connection, account_id, [_d.c.id == delivery_id], now)


def _replay(connection: Connection, account_id: int, which: list[sa.ColumnElement[bool]], now: float) -> int:
    chosen = (
        sa.select(_d.c.id)
        .join(webhook_endpoints, webhook_endpoints.c.id == _d.c.endpoint_id)
        .where(_d.c.account_id == account_id, _d.c.state != "sending", webhook_endpoints.c.state == "active", *which)
    )
    count = connection.execute(
        webhook_deliveries.update()
        .where(webhook_deliveries.c.id.in_(chosen))
        .values(state="waiting", in_order=1, attempts=0, due_at=now, ended_at=None)
    ).rowcount
    repair(connection, now)
    return count


def counts(connection: Connection, account_id: int) -> dict[int, dict[str, int]]:
    """For every endpoint of the account: how many deliveries are in which state."""
    rows = connection.execute(
        sa.select(webhook_deliveries.c.endpoint_id, webhook_deliveries.c.state, sa.func.count())
        .where(webhook_deliveries.c.account_id == account_id)
        .group_by(webhook_deliveries.c.endpoint_id, webhook_deliveries.c.state)
    )
    found: dict[int, dict[str, int]] = {}
    for endpoint_id, state, count in rows:
        found.setdefault(endpoint_id, {})[state] = count
    return found


def latest(connection: Connection, account_id: int, limit: int) -> list[DeliveryRecord]:
    """The account's newest deliveries, newest first, each with its last try."""
    a = webhook_attempts.alias("a")
    last = sa.select(sa.func.max(a.c.id)).where(a.c.delivery_id == _d.c.id).correlate(_d).scalar_subquery()
    rows = connection.execute(
        sa.select(
            events.c.key,
            events.c.type,
            webhook_endpoints.c.key,
            _d.c.state,
            _d.c.attempts,
            _d.c.due_at,
            _d.c.created_at,
            sa.func.coalesce(webhook_attempts.c.status, 0),
            sa.func.coalesce(webhook_attempts.c.reason, ""),
        )
        .join(events, events.c.id == _d.c.event_id)
        .join(webhook_endpoints, webhook_endpoints.c.id == _d.c.endpoint_id)
        .outerjoin(webhook_attempts, webhook_attempts.c.id == last)
        .where(_d.c.account_id == account_id)
        .order_by(_d.c.id.desc())
        .limit(limit)
    )
    return [DeliveryRecord(*row) for row in rows]


async def forget(database: Database, before: float) -> int:
    """Removes deliveries that ended before that unix time with their tries; returns how many. What still has to be
    delivered stays, whatever its age."""

    def find(connection: Connection, _cursor: object, limit: int) -> tuple[list[int], bool | None]:
        rows = connection.execute(
            sa.select(_d.c.id).where(_d.c.ended_at < before).order_by(_d.c.ended_at).limit(limit)
        ).scalars()
        ids = list(rows)
        return ids, True if len(ids) == limit else None

    return sum([count async for count in removed(database, find, lambda c, ids: _remove(c, ids, before))])


def _remove(connection: Connection, ids: list[int], before: float) -> int:
    # one that was replayed since it was found has not ended any more
    gone = connection.execute(
        webhook_deliveries.delete()
        .where(webhook_deliveries.c.id.in_(ids), webhook_deliveries.c.ended_at < before)
        .returning(webhook_deliveries.c.id)
    ).all()
    connection.execute(webhook_attempts.delete().where(webhook_attempts.c.delivery_id.in_([row.id for row in gone])))
    return len(gone)
