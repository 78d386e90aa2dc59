"""Every move that the outbox's statements make is in the table of moves, and the table has no move that none makes."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from tests.harness.outbox import OutboxHarness

from kurir.messages.channel_reports import (
    Halted,
    InDoubt,
    NotConnected,
    Outcome,
    Refused,
    Sent,
    StatusChanged,
    TryLater,
)
from kurir.messages.lifecycle import MOVES, REPLAYABLE, STATES, MessageState, ReceiptStatus
from kurir.outbox import claim, hold_after_restore, recovery, unprocessable
from kurir.outbox.message_rows import Claimed
from kurir.outbox.operator_actions import NotPossible
from kurir.outbox.tables import messages
from kurir.outbox.unprocessable import Tried
from kurir.reasons import as_written

Act = Callable[[OutboxHarness, int], Awaitable[object]]
_REMOTE_ID = "wamid.1"


def _write(work: Callable[[OutboxHarness, Connection, int], object]) -> Act:
    return lambda harness, message: harness.database.write(lambda c: work(harness, c, message))


def _recorded(outcome: Outcome, *, late: bool = False) -> Act:
    async def act(harness: OutboxHarness, message: int) -> None:
        if late:
            harness.time.now += 7200
        row = await harness.database.read(
            lambda c: c.execute(sa.select(messages).where(messages.c.id == message)).one()
        )
        claimed = Claimed(
            row.id,
            row.account_id,
            row.number_id,
            row.recipient,
            harness.draft().content,
            False,
            row.origin,
            row.attempts,
            row.created_at,
            row.expires_at,
            row.due_at,
        )
        await harness.outbox.record(claimed, outcome, 60.0)

    return act


def _received(status: ReceiptStatus) -> Act:
    def work(harness: OutboxHarness, connection: Connection, message: int) -> None:
        event = StatusChanged(
            account_id=harness.number.account_id,
            number_id=harness.number.id,
            remote_id=_REMOTE_ID,
            status=status,
            at=harness.time.now,
            message_id=message,
        )
        harness.outbox.receipt(connection, event, harness.time.now)

    return _write(work)


def _quarantine(state: MessageState) -> Act:
    def work(harness: OutboxHarness, connection: Connection, message: int) -> None:
        row = connection.execute(sa.select(messages).where(messages.c.id == message)).one()
        tried = Tried(row.id, row.account_id, row.number_id, row.attempts, row.due_at)
        unprocessable.end(connection, tried, state, as_written("cannot be read"), now=harness.time.now)

    return _write(work)


def _expired(harness: OutboxHarness, connection: Connection, _message: int) -> None:
    harness.time.now += 7200
    claim.expire(connection, harness.time.now)


async def _claimed_late(harness: OutboxHarness, _message: int) -> None:
    harness.time.now += 7200
    await harness.claim()


def _doubt_over(harness: OutboxHarness, connection: Connection, _message: int) -> None:
    own = (harness.number.account_id, harness.number.id)
    for row in recovery.doubts(connection, *own):
        recovery.settle(connection, harness.number.account_id, row, max_attempts=3, now=harness.time.now)


ACTS: dict[str, Act] = {
    "claim": lambda harness, _message: harness.claim(),
    "claim, late": _claimed_late,
    "expire": _write(_expired),
    "sent": _recorded(Sent(_REMOTE_ID)),
    "refused": _recorded(Refused("131026", as_written("no"))),
    "in doubt": _recorded(InDoubt(as_written("no answer"))),
    "not connected": _recorded(NotConnected(as_written("away"))),
    "not connected, late": _recorded(NotConnected(as_written("away")), late=True),
    "halted": _recorded(Halted("190", as_written("token"))),
    "later": _recorded(TryLater("130429", as_written("slow down"))),
    "delivered": _received("delivered"),
    "read": _received("read"),
    "sent, by a receipt": _received("sent"),
    "failed, by a receipt": _received("failed"),
    "quarantined as failed": _quarantine("failed"),
    "quarantined as sent": _quarantine("sent"),
    "quarantined as unconfirmed": _quarantine("unconfirmed"),
    "doubt is over": _write(_doubt_over),
    "restored": _write(lambda harness, c, _message: hold_after_restore.hold(c, harness.time.now)),
    "replay": lambda harness, message: harness.outbox.replay(harness.number.account_id, message),
    "cancel": lambda harness, message: harness.outbox.cancel(harness.number.account_id, message),
}


async def _moves_from(harness: OutboxHarness, before: MessageState) -> set[tuple[MessageState, MessageState]]:
    """What every act makes of a message in that state: the moves, without what stays."""
    found: set[tuple[MessageState, MessageState]] = set()
    for act in ACTS.values():
        (message,) = (await harness.outbox.accept([harness.draft()])).ids
        until = harness.time.now + 60 if before == "unconfirmed" else None
        put = sa.update(messages).where(messages.c.id == message)
        put = put.values(state=before, attempts=int(before != "queued"), doubt_until=until)
        await harness.database.write(lambda c, put=put: c.execute(put) and None)
        with contextlib.suppress(NotPossible):
            await act(harness, message)
        after = await harness.state(message)
        if after != before:
            found.add((before, after))  # type: ignore[arg-type]
        await harness.database.write(lambda c: c.execute(sa.delete(messages)) and None)
    return found


@pytest.mark.parametrize("before", STATES)
async def test_the_statements_make_exactly_the_moves_of_the_table(harness: OutboxHarness, before: MessageState) -> None:
    await harness.database.write(lambda c: c.exec_driver_sql("UPDATE accounts SET doubt = 'resend'") and None)
    allowed = {(before, after) for after in MOVES[before]}
    if before in REPLAYABLE:
        allowed.add((before, "queued"))
    assert await _moves_from(harness, before) == allowed
