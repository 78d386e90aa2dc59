"""Deliveries of events to endpoints, and the result of each try. `fan_out` makes the rows of the event log.

    waiting ──▶ pending ──claim──▶ sending ──▶ delivered
                   ▲                  │  └──▶ failed (tries used up, or endpoint disabled) ──replay──▶ waiting
                   └──── again ───────┘       canceled: endpoint removed

Order: of one endpoint and chat only the oldest is `pending` or `sending`, the later ones are `waiting` until it is
delivered. That keeps the order however long a receiver is down. An event that alone keeps failing while others are
delivered leaves the order after a few tries (`in_order` 0), so that one event that a receiver always refuses does not
block its chat for a day.

`due_at` of a `sending` row is when its try counts as lost: a crash delays a delivery, it never loses one.

More than 300 lines: the statements on one table's rows, from publishing to their end.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.events.tables import events
from kurir.kit.sealing import Sealing
from kurir.messages.channel_reports import Quarantined
from kurir.numbers.tables import numbers
from kurir.quarantine import quarantine
from kurir.reasons import NOTHING, Reason, stored
from kurir.reasons import webhooks as reasons
from kurir.store.statements import Statement
from kurir.webhooks import endpoints, retry_schedule
from kurir.webhooks.fan_out import fan_out
from kurir.webhooks.retry_schedule import Answered, Delivered, Exhausted, Gone, NextStep, ReceiverResponse, RetryLater
from kurir.webhooks.tables import webhook_attempts, webhook_deliveries, webhook_endpoints

LEASE = 30.0
"""Seconds after which a try whose end was never recorded counts as lost; longer than any try may take."""
_EXCERPT = 1_000
_STEPS = 4
"""Steps of the fan-out that one transaction takes before it disables an endpoint."""

_d = webhook_deliveries.alias("d")
_live = webhook_deliveries.c
# spelt out, so that the database sees that its partial indexes fit
_HEAD = sa.text("d.state IN ('pending', 'sending')")
_OPEN = sa.text("d.state IN ('waiting', 'pending', 'sending')")
_WAITING = sa.text("d.state IN ('waiting', 'pending', 'sending') AND d.state = 'waiting'")

_OF_CHAT = (
    _d.c.endpoint_id == sa.bindparam("endpoint"),
    _d.c.number_id == sa.bindparam("number"),
    _d.c.chat == sa.bindparam("chat_"),
)
_NEXT = (
    sa.select(_d.c.id)
    .where(_d.c.endpoint_id == sa.bindparam("endpoint"), _HEAD, _d.c.due_at <= sa.bindparam("now"))
    .order_by(_d.c.due_at, _d.c.id)
    .limit(1)
    .with_for_update(skip_locked=True)  # another process may be about to take it
    .scalar_subquery()
)
_CLAIM = Statement(
    webhook_deliveries.update()
    .where(_live.id == _NEXT)
    .values(state="sending", attempts=_live.attempts + 1, due_at=sa.bindparam("until"))
    .returning(webhook_deliveries)
)
_CLAIMED = Statement(
    sa.select(events.c.key, events.c.type, events.c.body, numbers.c.key.label("number"))
    .join(numbers, numbers.c.id == events.c.number_id)
    .where(events.c.account_id == sa.bindparam("account"), events.c.id == sa.bindparam("event"))
)
_ATTEMPT = Statement("""
INSERT INTO webhook_attempts (account_id, endpoint_id, delivery_id, number, at, seconds, succeeded, status, reason,
    answer)
VALUES (:account, :endpoint, :delivery, :number, :now, :seconds, :succeeded, :status, :reason, :answer)
""")
_a = webhook_attempts.c
_SUCCEEDED_AT = (
    sa.select(sa.func.coalesce(sa.func.max(_a.at), 0.0))
    .where(_a.endpoint_id == sa.bindparam("endpoint"), _a.succeeded == 1)
    .scalar_subquery()
)
_DOWN = Statement(
    sa.select(_a.id)
    .where(_a.endpoint_id == sa.bindparam("endpoint"), _a.succeeded == 0, _a.at > _SUCCEEDED_AT)
    .offset(retry_schedule.FAILING - 1)
    .limit(1)
)
_IN_HAND = (
    _live.id == sa.bindparam("delivery"),
    _live.state == "sending",
    _live.attempts == sa.bindparam("attempt"),
)
_ENDED = Statement(
    webhook_deliveries.update().where(*_IN_HAND).values(state=sa.bindparam("state_"), ended_at=sa.bindparam("now"))
)
_AGAIN = Statement(
    webhook_deliveries.update()
    .where(*_IN_HAND)
    .values(state="pending", due_at=sa.bindparam("due"), in_order=sa.bindparam("order"))
)
_FIRST_DUE = Statement(
    sa.select(
        webhook_endpoints.c.account_id,
        webhook_endpoints.c.id,
        sa.select(sa.func.min(_d.c.due_at))
        .where(_d.c.endpoint_id == webhook_endpoints.c.id, _HEAD)
        .correlate(webhook_endpoints)
        .scalar_subquery()
        .label("due_at"),
    ).where(webhook_endpoints.c.state == "active", webhook_endpoints.c.removed_at.is_(None))
)
_PROMOTE = Statement(
    webhook_deliveries.update()
    .where(_live.id == sa.select(sa.func.min(_d.c.id)).where(*_OF_CHAT, _WAITING).scalar_subquery())
    .values(state="pending", due_at=sa.bindparam("now"))
)


class ClaimedDelivery(msgspec.Struct, frozen=True):
    """A claimed try: its address and its content. `attempt` (1 = the first) was committed before the try."""

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
        return f"ClaimedDelivery({self.event_key} to {self.endpoint_key})"


# -- claimed and recorded ----------------------------------------------------------------------------------------------


def first_due(connection: Connection) -> list[tuple[int, int, float]]:
    """Each active endpoint with something due: its account, its id, when its next try is due (unix seconds)."""
    return [(row.account_id, row.id, row.due_at) for row in _FIRST_DUE.all(connection) if row.due_at is not None]


def claim(connection: Connection, sealing: Sealing, endpoint_id: int, now: float) -> ClaimedDelivery | None:
    """Takes the endpoint's next due event for a try; None when nothing is due or the endpoint is disabled."""
    address = endpoints.address(connection, sealing, endpoint_id, now)
    if address is None:
        return None
    row = _CLAIM.first(connection, endpoint=endpoint_id, now=now, until=now + LEASE)
    if row is None:
        return None
    event = _CLAIMED.first(connection, account=row.account_id, event=row.event_id)
    return ClaimedDelivery(
        id=row.id,
        account_id=row.account_id,
        endpoint_id=endpoint_id,
        endpoint_key=address.key,
        number_id=row.number_id,
        number_key=event.number,
        chat=row.chat,
        in_order=bool(row.in_order),
        attempt=row.attempts,
        created_at=row.created_at,
        url=address.url,
        secrets=address.secrets,
        event_key=event.key,
        event_type=event.type,
        body=event.body,
    )


def quarantine_delivery(connection: Connection, endpoint_id: int, delivery_id: int, reason: str, now: float) -> bool:
    """Quarantines a delivery that cannot be processed, and makes the next one of its chat pending.

    `delivery_id` 0: the next one of the endpoint that is due. False when there is none.
    """
    which = [_d.c.endpoint_id == endpoint_id, _HEAD]
    which += [_d.c.id == delivery_id] if delivery_id else [_d.c.due_at <= now]
    row = connection.execute(sa.select(_d).where(*which).order_by(_d.c.due_at, _d.c.id).limit(1)).first()
    if row is None:
        return False
    ended = webhook_deliveries.update().where(_live.id == row.id).values(state="failed", ended_at=now)
    connection.execute(ended)
    entry = Quarantined(row.account_id, row.number_id, "webhook", f"delivery:{row.id}", reason, b"")
    quarantine.add(connection, entry, now)
    if row.in_order:
        _promote(connection, endpoint_id, row.number_id, row.chat, now)
    return True


def record(
    connection: Connection,
    delivery: ClaimedDelivery,
    answer: ReceiverResponse,
    step: NextStep,
    *,
    seconds: float,
    now: float,
) -> Reason:
    """Records a try's result; returns why the endpoint was disabled, `NOTHING` when it was not.

    The result counts only for the try that is in flight (its number is the fence); the attempt is kept in any case. A
    success after nothing but failures makes waiting events due: the receiver is back.
    """
    if isinstance(step, Delivered) and _DOWN.first(connection, endpoint=delivery.endpoint_id):
        _retry_now(connection, delivery.endpoint_id, now)
    _ATTEMPT.change(
        connection,
        account=delivery.account_id,
        endpoint=delivery.endpoint_id,
        delivery=delivery.id,
        number=delivery.attempt,
        now=now,
        seconds=seconds,
        succeeded=int(isinstance(step, Delivered)),
        status=answer.status if isinstance(answer, Answered) else 0,
        reason="" if isinstance(answer, Answered) else stored(answer.reason),
        answer=answer.answer[:_EXCERPT] if isinstance(answer, Answered) else "",
    )
    fence = {"delivery": delivery.id, "attempt": delivery.attempt}
    match step:
        case Delivered() | Exhausted() | Gone():
            leaves = True
            state = "delivered" if isinstance(step, Delivered) else "failed"
            moved = _ENDED.change(connection, state_=state, now=now, **fence)
        case RetryLater(due_at, gives_way):
            leaves = gives_way and delivery.in_order and _others_got_through(connection, delivery)
            moved = _AGAIN.change(connection, due=due_at, order=int(delivery.in_order and not leaves), **fence)
    if moved and leaves and delivery.in_order:
        _promote(connection, delivery.endpoint_id, delivery.number_id, delivery.chat, now)
    reason = _why_disabled(connection, delivery.endpoint_id, step, now)
    # what happened until now counts as failed and can be replayed: while there is more of it than one transaction
    # should take, the endpoint is not disabled yet
    if not reason or all(fan_out(connection, delivery.account_id) for _ in range(_STEPS)):
        return NOTHING
    endpoints.disable(connection, delivery.account_id, delivery.endpoint_id, reason)
    end_open(connection, delivery.endpoint_id, "failed", now)
    return reason


def _promote(connection: Connection, endpoint_id: int, number_id: int, chat: str, now: float) -> None:
    """Makes the oldest waiting event of a chat pending."""
    _PROMOTE.change(connection, endpoint=endpoint_id, number=number_id, chat_=chat, now=now)


def _retry_now(connection: Connection, endpoint_id: int, now: float) -> None:
    """Makes ordered events that wait for a retry due at once."""
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


def _others_got_through(connection: Connection, delivery: ClaimedDelivery) -> bool:
    a = webhook_attempts.c
    since = sa.select(a.id).where(a.endpoint_id == delivery.endpoint_id, a.succeeded == 1, a.at >= delivery.created_at)
    return connection.execute(since.limit(1)).first() is not None


def _why_disabled(connection: Connection, endpoint_id: int, step: NextStep, now: float) -> Reason:
    if isinstance(step, Gone):
        return reasons.RECEIVER_GONE()
    if isinstance(step, Delivered) or not retry_schedule.is_dead(_failing_since(connection, endpoint_id), now):
        return NOTHING
    return reasons.RECEIVER_DEAD(days=retry_schedule.DEAD_AFTER / 86_400)


def _failing_since(connection: Connection, endpoint_id: int) -> float | None:
    a, e = webhook_attempts.c, webhook_endpoints.c
    since = connection.execute(sa.select(e.active_since).where(e.id == endpoint_id)).scalar_one()
    succeeded = sa.select(sa.func.max(a.at)).where(a.endpoint_id == endpoint_id, a.succeeded == 1, a.at > since)
    since = connection.execute(succeeded).scalar() or since
    failed = sa.select(sa.func.min(a.at)).where(a.endpoint_id == endpoint_id, a.succeeded == 0, a.at >= since)
    return connection.execute(failed).scalar()


def release(connection: Connection, delivery: ClaimedDelivery, now: float) -> None:
    """Gives back a try that is abandoned as the gateway stops, so that the next process retries at once."""
    order = int(delivery.in_order)
    _AGAIN.change(connection, delivery=delivery.id, attempt=delivery.attempt, due=now, order=order)


def release_all(connection: Connection, now: float) -> None:
    """Gives every try back: for the start of the only process on a database."""
    connection.execute(
        webhook_deliveries.update()
        .where(sa.text("webhook_deliveries.state IN ('pending', 'sending')"), _live.state == "sending")
        .values(state="pending", due_at=now)
    )


def end_open(connection: Connection, endpoint_id: int, state: Literal["failed", "canceled"], now: float) -> None:
    """Ends everything that is not delivered: the endpoint was disabled or removed."""
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


def repair(connection: Connection, now: float) -> int:
    """Makes stranded chats' next events pending; returns how many."""
    chats = stranded(connection)
    for endpoint_id, number_id, chat in chats:
        _promote(connection, endpoint_id, number_id, chat, now)
    return len(chats)
