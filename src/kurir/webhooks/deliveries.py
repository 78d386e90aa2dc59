"""What must still be told, to whom, and what came of each try. Rows are written in the transaction of the change.

    waiting ──▶ pending ──claim──▶ sending ──▶ delivered
                   ▲                  │  └──▶ failed (tries used up, or endpoint disabled) ──replay──▶ waiting
                   └──── again ───────┘       canceled: endpoint removed

Order: of one endpoint and chat only the oldest is `pending` or `sending`, the later ones are `waiting` until it has
got through. While a receiver is down that keeps the order however long it takes. An event that alone keeps failing
while others get through leaves the order after a few tries (`in_order` 0), so that one event that a receiver chokes
on does not silence its chat for a day.

`due_at` of a `sending` row is when its try is given up for lost: a crash delays a delivery, it never loses one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.foundation.ids import opaque_id
from kurir.foundation.sealing import Sealing
from kurir.foundation.tables import (
    numbers,
    webhook_attempts,
    webhook_deliveries,
    webhook_endpoints,
    webhook_events,
)
from kurir.webhooks import endpoints, schedule
from kurir.webhooks.events import Body, EventType, encode
from kurir.webhooks.schedule import Again, Answer, Answered, Delivered, Exhausted, Gone, Verdict

LEASE = 30.0
"""Seconds after which a try whose end was never recorded counts as lost; longer than any try may take."""
_EXCERPT = 1_000
_AT_ONCE = 1_000

_d = webhook_deliveries.alias("d")
# spelt out, so that the database sees that its partial indexes fit
_HEAD = sa.text("d.state IN ('pending', 'sending')")
_OPEN = sa.text("d.state IN ('waiting', 'pending', 'sending')")
_WAITING = sa.text("d.state IN ('waiting', 'pending', 'sending') AND d.state = 'waiting'")

DeliveryState = Literal["waiting", "pending", "sending", "delivered", "failed", "canceled"]


class Parcel(msgspec.Struct, frozen=True):
    """One try, claimed: where it goes and what it holds. `attempt` (1 = the first) was committed before the try."""

    id: int
    account_id: int
    endpoint_id: int
    endpoint_key: str
    number_id: int
    number_key: str
    chat: str
    in_order: bool
    attempt: int
    created_at: float
    url: str
    secrets: list[str]
    event_key: str
    event_type: str
    body: str

    def __repr__(self) -> str:
        return f"Parcel({self.event_key} to {self.endpoint_key})"


class Told(msgspec.Struct, frozen=True):
    """One delivery as a person looks at it; `status` and `reason` are of the last try (0 and "": none yet)."""

    event_key: str
    event_type: str
    endpoint_key: str
    state: DeliveryState
    attempts: int
    due_at: float
    created_at: float
    status: int
    reason: str


# -- written with the change -------------------------------------------------------------------------------------------


def publish(
    connection: Connection,
    account_id: int,
    number_id: int,
    event: EventType,
    chat: str,
    *,
    body: Callable[[], Body],
    now: float,
) -> int:
    """Adds an event for every endpoint of the account that takes it, in the caller's transaction.

    `chat` orders events among each other ("": the number itself); `body` is asked only when somebody takes the event.
    Returns how many endpoints will get it.
    """
    takers = endpoints.wanting(connection, account_id, number_id, event)
    if not takers:
        return 0
    added = connection.execute(
        webhook_events.insert().values(
            account_id=account_id,
            number_id=number_id,
            key="evt_" + opaque_id(24),
            type=event,
            body=encode(body()).decode(),
            created_at=now,
        )
    )
    assert added.inserted_primary_key is not None
    for endpoint_id in takers:
        connection.execute(
            webhook_deliveries.insert().values(
                account_id=account_id,
                endpoint_id=endpoint_id,
                event_id=added.inserted_primary_key[0],
                number_id=number_id,
                chat=chat,
                state="waiting" if _has_earlier(connection, endpoint_id, number_id, chat) else "pending",
                due_at=now,
                created_at=now,
            )
        )
    return len(takers)


def _has_earlier(connection: Connection, endpoint_id: int, number_id: int, chat: str) -> bool:
    earlier = sa.select(_d.c.id).where(*_of_chat(endpoint_id, number_id, chat), _OPEN, _d.c.in_order == 1).limit(1)
    return connection.execute(earlier).first() is not None


def _of_chat(endpoint_id: int, number_id: int, chat: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (_d.c.endpoint_id == endpoint_id, _d.c.number_id == number_id, _d.c.chat == chat)


# -- claimed and recorded ----------------------------------------------------------------------------------------------


def first_due(connection: Connection) -> list[tuple[int, float]]:
    """For every active endpoint with something to tell: when its next try is due (unix seconds)."""
    first = (
        sa.select(sa.func.min(_d.c.due_at))
        .where(_d.c.endpoint_id == webhook_endpoints.c.id, _HEAD)
        .correlate(webhook_endpoints)
        .scalar_subquery()
    )
    rows = connection.execute(
        sa.select(webhook_endpoints.c.id, first).where(
            webhook_endpoints.c.state == "active", webhook_endpoints.c.removed_at.is_(None)
        )
    )
    return [(row[0], row[1]) for row in rows if row[1] is not None]


def claim(connection: Connection, sealing: Sealing, endpoint_id: int, now: float) -> Parcel | None:
    """Takes the endpoint's next due event for a try; None when nothing is due or the endpoint is disabled."""
    endpoint = connection.execute(
        sa.select(webhook_endpoints).where(webhook_endpoints.c.id == endpoint_id, webhook_endpoints.c.state == "active")
    ).first()
    if endpoint is None:
        return None
    next_ = (
        sa.select(_d.c.id)
        .where(_d.c.endpoint_id == endpoint_id, _HEAD, _d.c.due_at <= now)
        .order_by(_d.c.due_at, _d.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)  # another process may be about to take it
        .scalar_subquery()
    )
    row = connection.execute(
        webhook_deliveries.update()
        .where(webhook_deliveries.c.id == next_)
        .values(state="sending", attempts=webhook_deliveries.c.attempts + 1, due_at=now + LEASE)
        .returning(webhook_deliveries)
    ).first()
    if row is None:
        return None
    event = connection.execute(
        sa.select(webhook_events.c.key, webhook_events.c.type, webhook_events.c.body, numbers.c.key.label("number"))
        .join(numbers, numbers.c.id == webhook_events.c.number_id)
        .where(webhook_events.c.account_id == row.account_id, webhook_events.c.id == row.event_id)
    ).one()
    return Parcel(
        id=row.id,
        account_id=row.account_id,
        endpoint_id=endpoint_id,
        endpoint_key=endpoint.key,
        number_id=row.number_id,
        number_key=event.number,
        chat=row.chat,
        in_order=bool(row.in_order),
        attempt=row.attempts,
        created_at=row.created_at,
        url=endpoint.url,
        secrets=endpoints.secrets(connection, sealing, row.account_id, endpoint_id, now),
        event_key=event.key,
        event_type=event.type,
        body=event.body,
    )


def record(
    connection: Connection, parcel: Parcel, answer: Answer, verdict: Verdict, *, seconds: float, now: float
) -> str:
    """Writes what came of a try; returns why the endpoint was disabled, "" when it was not.

    The result counts only for the try that is in flight (its number is the fence); the attempt is kept in any case.
    """
    match verdict:
        case Delivered():
            values: dict[str, Any] = {"state": "delivered", "ended_at": now}
        case Exhausted() | Gone():
            values = {"state": "failed", "ended_at": now}
        case Again(due_at, gives_way):
            leaves = gives_way and parcel.in_order and _others_got_through(connection, parcel)
            values = {"state": "pending", "due_at": due_at, "in_order": int(parcel.in_order and not leaves)}
    connection.execute(
        webhook_attempts.insert().values(
            account_id=parcel.account_id,
            endpoint_id=parcel.endpoint_id,
            delivery_id=parcel.id,
            number=parcel.attempt,
            at=now,
            seconds=seconds,
            succeeded=int(isinstance(verdict, Delivered)),
            status=answer.status if isinstance(answer, Answered) else 0,
            reason="" if isinstance(answer, Answered) else answer.reason,
            answer=answer.answer[:_EXCERPT] if isinstance(answer, Answered) else "",
        )
    )
    moved = connection.execute(
        webhook_deliveries.update()
        .where(
            webhook_deliveries.c.id == parcel.id,
            webhook_deliveries.c.state == "sending",
            webhook_deliveries.c.attempts == parcel.attempt,
        )
        .values(**values)
    ).rowcount
    out_of_order = values["state"] != "pending" or not values["in_order"]
    if moved and parcel.in_order and out_of_order:
        _promote(connection, parcel.endpoint_id, parcel.number_id, parcel.chat, now)
    reason = _why_disabled(connection, parcel.endpoint_id, verdict, now)
    if reason:
        endpoints.disable(connection, parcel.account_id, parcel.endpoint_id, reason)
        end_open(connection, parcel.endpoint_id, "failed", now)
    return reason


def _promote(connection: Connection, endpoint_id: int, number_id: int, chat: str, now: float) -> None:
    """The oldest waiting event of a chat becomes the one to try."""
    oldest = sa.select(sa.func.min(_d.c.id)).where(*_of_chat(endpoint_id, number_id, chat), _WAITING).scalar_subquery()
    connection.execute(
        webhook_deliveries.update().where(webhook_deliveries.c.id == oldest).values(state="pending", due_at=now)
    )


def _others_got_through(connection: Connection, parcel: Parcel) -> bool:
    a = webhook_attempts.c
    since = sa.select(a.id).where(a.endpoint_id == parcel.endpoint_id, a.succeeded == 1, a.at >= parcel.created_at)
    return connection.execute(since.limit(1)).first() is not None


def _why_disabled(connection: Connection, endpoint_id: int, verdict: Verdict, now: float) -> str:
    if isinstance(verdict, Gone):
        return "the receiver answered 410 (Gone)"
    if isinstance(verdict, Delivered) or not schedule.is_dead(_failing_since(connection, endpoint_id), now):
        return ""
    return f"nothing but failures for {schedule.DEAD_AFTER / 86_400:g} days"


def _failing_since(connection: Connection, endpoint_id: int) -> float | None:
    a, e = webhook_attempts.c, webhook_endpoints.c
    since = connection.execute(sa.select(e.active_since).where(e.id == endpoint_id)).scalar_one()
    succeeded = sa.select(sa.func.max(a.at)).where(a.endpoint_id == endpoint_id, a.succeeded == 1, a.at > since)
    since = connection.execute(succeeded).scalar() or since
    failed = sa.select(sa.func.min(a.at)).where(a.endpoint_id == endpoint_id, a.succeeded == 0, a.at >= since)
    return connection.execute(failed).scalar()


def release(connection: Connection, parcel: Parcel, now: float) -> None:
    """Gives a try back whose end nobody will wait for (the gateway stops), so that the next process goes on at once."""
    connection.execute(
        webhook_deliveries.update()
        .where(
            webhook_deliveries.c.id == parcel.id,
            webhook_deliveries.c.state == "sending",
            webhook_deliveries.c.attempts == parcel.attempt,
        )
        .values(state="pending", due_at=now)
    )


def hasten(connection: Connection, endpoint_id: int, now: float) -> None:
    """A receiver is back: what is in order and waits for its next try is due at once."""
    connection.execute(
        webhook_deliveries.update()
        .where(
            webhook_deliveries.c.endpoint_id == endpoint_id,
            webhook_deliveries.c.state == "pending",
            webhook_deliveries.c.in_order == 1,
            webhook_deliveries.c.due_at > now,
        )
        .values(due_at=now)
    )


def end_open(connection: Connection, endpoint_id: int, state: Literal["failed", "canceled"], now: float) -> None:
    """Ends everything that has not got through: the endpoint was disabled or removed."""
    connection.execute(
        webhook_deliveries.update()
        .where(
            webhook_deliveries.c.endpoint_id == endpoint_id,
            webhook_deliveries.c.state.in_(["waiting", "pending", "sending"]),
        )
        .values(state=state, ended_at=now)
    )


def stranded(connection: Connection) -> list[tuple[int, int, str]]:
    """Chats (endpoint, number, chat) whose events all wait: two processes passed each other, or a replay began."""
    rows = connection.execute(
        sa.select(_d.c.endpoint_id, _d.c.number_id, _d.c.chat)
        .where(_OPEN, _d.c.in_order == 1)
        .group_by(_d.c.endpoint_id, _d.c.number_id, _d.c.chat)
        .having(sa.func.min(sa.case((_d.c.state == "waiting", 1), else_=0)) == 1)
    )
    return [(row[0], row[1], row[2]) for row in rows]


def mend(connection: Connection, now: float) -> int:
    """Puts stranded chats on their way again; returns how many."""
    chats = stranded(connection)
    for endpoint_id, number_id, chat in chats:
        _promote(connection, endpoint_id, number_id, chat, now)
    return len(chats)


# -- by hand, and by time ----------------------------------------------------------------------------------------------


def replay_event(connection: Connection, account_id: int, event_key: str, now: float) -> int:
    """Delivers one event again, also when it got through before; returns to how many active endpoints."""
    chosen = sa.select(webhook_events.c.id).where(
        webhook_events.c.account_id == account_id, webhook_events.c.key == event_key
    )
    return _replay(connection, account_id, [_d.c.event_id.in_(chosen)], now)


def replay_failed(connection: Connection, account_id: int, since: float, now: float) -> int:
    """Delivers again what failed since that time (unix seconds), in order; returns how many deliveries."""
    return _replay(connection, account_id, [_d.c.state == "failed", _d.c.ended_at >= since], now)


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
    mend(connection, now)
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


def latest(connection: Connection, account_id: int, limit: int) -> list[Told]:
    """The account's newest deliveries, newest first, each with its last try."""
    a = webhook_attempts.alias("a")
    last = sa.select(sa.func.max(a.c.id)).where(a.c.delivery_id == _d.c.id).correlate(_d).scalar_subquery()
    rows = connection.execute(
        sa.select(
            webhook_events.c.key,
            webhook_events.c.type,
            webhook_endpoints.c.key,
            _d.c.state,
            _d.c.attempts,
            _d.c.due_at,
            _d.c.created_at,
            sa.func.coalesce(webhook_attempts.c.status, 0),
            sa.func.coalesce(webhook_attempts.c.reason, ""),
        )
        .join(webhook_events, webhook_events.c.id == _d.c.event_id)
        .join(webhook_endpoints, webhook_endpoints.c.id == _d.c.endpoint_id)
        .outerjoin(webhook_attempts, webhook_attempts.c.id == last)
        .where(_d.c.account_id == account_id)
        .order_by(_d.c.id.desc())
        .limit(limit)
    )
    return [Told(*row) for row in rows]


def forget(connection: Connection, before: float) -> int:
    """Removes events whose deliveries all ended before that time, with their tries; a bounded number at once."""
    old = [
        row[0]
        for row in connection.execute(
            sa.select(_d.c.id, _d.c.event_id).where(_d.c.ended_at < before).order_by(_d.c.ended_at).limit(_AT_ONCE)
        )
    ]
    connection.execute(webhook_attempts.delete().where(webhook_attempts.c.delivery_id.in_(old)))
    connection.execute(webhook_deliveries.delete().where(webhook_deliveries.c.id.in_(old)))
    told = sa.select(_d.c.id).where(_d.c.event_id == webhook_events.c.id).correlate(webhook_events)
    connection.execute(webhook_events.delete().where(webhook_events.c.created_at < before, ~told.exists()))
    return len(old)
