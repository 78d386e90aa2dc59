"""What a person can do with single messages: list them, see their tries, replay and cancel them."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.kit.ids import public_message_id
from kurir.messages.lifecycle import CANCELABLE, REPLAYABLE, MessageState
from kurir.outbox import record
from kurir.outbox.message_rows import Snapshot, snapshot
from kurir.outbox.status_events import publish_status
from kurir.outbox.tables import attempts, messages
from kurir.reasons import Code, Reason, ReasonedError, stored
from kurir.reasons.administration import MOVED_ON, NOT_CANCELABLE, NOT_REPLAYABLE, PASSWORD_ERASED
from kurir.reasons.messages import PERSON_DECIDED
from kurir.reasons.states import either, state

_SNAPSHOT = [messages.c[name] for name in Snapshot.__struct_fields__]


class NotPossible(ReasonedError):  # noqa: N818 - a state of the world, not a mistake
    """The message cannot be replayed or canceled now, for a reason."""


class Try(msgspec.Struct, frozen=True):
    """One try of a message, or what was decided about it, and how it ended. `ended_at` in unix seconds."""

    number: int
    ended_at: float
    outcome: str
    code: str
    reason: str


def listed(connection: Connection, account_id: int, state: MessageState | None, limit: int) -> list[Snapshot]:
    """The account's messages in that state (None: in any), newest first."""
    chosen = sa.select(*_SNAPSHOT).where(messages.c.account_id == account_id)
    if state is not None:
        chosen = chosen.where(messages.c.state == state)
    return [snapshot(row) for row in connection.execute(chosen.order_by(messages.c.id.desc()).limit(limit))]


def get_any_account(connection: Connection, message_id: int) -> Snapshot | None:
    """The message of whichever account: for the operator only."""
    row = connection.execute(sa.select(*_SNAPSHOT).where(messages.c.id == message_id)).first()
    return snapshot(row) if row else None


def tries(connection: Connection, account_id: int, message_id: int) -> list[Try]:
    """The message's tries, oldest first."""
    columns = [attempts.c[name] for name in Try.__struct_fields__]
    rows = connection.execute(
        sa.select(*columns)
        .where(attempts.c.account_id == account_id, attempts.c.message_id == message_id)
        .order_by(attempts.c.id)
    )
    return [Try(*row) for row in rows]


def replay(connection: Connection, account_id: int, message_id: int, *, now: float, lifetime: float) -> Snapshot:
    """Queues a failed, expired or unconfirmed message anew, with its tries reset and a new `lifetime` (seconds).

    Raises KeyError for a message that is not the account's, NotPossible for one in another state.
    """
    before = _found(connection, account_id, message_id)
    if before.state not in REPLAYABLE:
        raise NotPossible(_in_state(NOT_REPLAYABLE, before, REPLAYABLE))
    erased = sa.select(messages.c.content).where(messages.c.account_id == account_id, messages.c.id == message_id)
    if connection.execute(erased).scalar_one() == "":
        raise NotPossible(PASSWORD_ERASED(message=public_message_id(message_id)))
    change: dict[str, object] = {
        "state": "queued",
        "attempts": 0,
        "due_at": now,
        # a code is worth nothing after its own time
        "expires_at": sa.case((messages.c.sealed == 1, messages.c.expires_at), else_=now + lifetime),
        "doubt_until": None,
        "ended_at": None,
        "error_code": "",
        "error_reason": "",
    }
    _decide(connection, before, change, "replayed", now)
    return _found(connection, account_id, message_id)


def cancel(connection: Connection, account_id: int, message_id: int, *, now: float) -> tuple[Snapshot, Snapshot]:
    """Ends a queued or unconfirmed message; returns it as it was and as it is. Raises like `replay`."""
    before = _found(connection, account_id, message_id)
    if before.state not in CANCELABLE:
        raise NotPossible(_in_state(NOT_CANCELABLE, before, CANCELABLE))
    kept = sa.case((messages.c.sealed == 1, ""), else_=messages.c.content)
    change: dict[str, object] = {"state": "canceled", "ended_at": now, "doubt_until": None, "content": kept}
    _decide(connection, before, change, "canceled", now)
    after = _found(connection, account_id, message_id)
    publish_status(connection, before.state, after, now)
    return before, after


def _found(connection: Connection, account_id: int, message_id: int) -> Snapshot:
    found = record.by_id(connection, account_id, message_id)
    if found is None:
        raise KeyError(message_id)
    return found


def _decide(connection: Connection, before: Snapshot, change: dict[str, object], decision: str, now: float) -> None:
    done = connection.execute(
        sa.update(messages)
        .where(messages.c.account_id == before.account_id, messages.c.id == before.id, messages.c.state == before.state)
        .values(**change)
    )
    if not done.rowcount:
        raise NotPossible(MOVED_ON(message=public_message_id(before.id)))
    connection.execute(
        sa.insert(attempts).values(
            account_id=before.account_id,
            message_id=before.id,
            number=before.attempts,
            ended_at=now,
            outcome=decision,
            code=before.error_code,
            reason=stored(PERSON_DECIDED(state=state(before.state))),
        )
    )


def _in_state(code: Code, message: Snapshot, states: frozenset[MessageState]) -> Reason:
    return code(message=public_message_id(message.id), state=state(message.state), states=either(states))
