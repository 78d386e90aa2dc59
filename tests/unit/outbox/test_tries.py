"""The record of a message's tries: one row for each try, and for each decision about it, with its time and reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from tests.harness.outbox import OutboxHarness

from kurir.messages.channel_reports import (
    Halted,
    InDoubt,
    NotConnected,
    Outcome,
    Refused,
    Restricted,
    Sent,
    StatusChanged,
    TryLater,
)
from kurir.outbox import hold_after_restore, operator_actions
from kurir.outbox.message_rows import Snapshot
from kurir.outbox.operator_actions import Try
from kurir.reasons import NOTHING, Reason, as_written, stored
from kurir.reasons.messages import EXHAUSTED, NO_RECEIPT, NOT_RECORDED, PERSON_DECIDED, RESTORED
from kurir.reasons.states import state

LATER = 10.0


async def tries(harness: OutboxHarness, message_id: int) -> list[Try]:
    return await harness.database.read(lambda c: operator_actions.tries(c, harness.number.account_id, message_id))


async def stands(harness: OutboxHarness, message_id: int) -> Snapshot:
    found = await harness.outbox.snapshot(harness.number.account_id, message_id)
    assert found is not None
    return found


async def tried(harness: OutboxHarness, outcome: Outcome) -> int:
    """A message, claimed, whose outcome comes a little later."""
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    (claimed,) = await harness.claim()
    harness.time.now += LATER
    await harness.outbox.record(claimed, outcome)
    return message_id


REASON = as_written("why")
WHY = stored(REASON)


@pytest.mark.parametrize(
    ("outcome", "row", "after"),
    [
        (Sent("w1"), ("sent", "", ""), ("sent", 1, "w1", "", NOTHING)),
        (Refused("131026", REASON), ("refused", "131026", WHY), ("failed", 1, None, "131026", REASON)),
        (InDoubt(REASON, "w1"), ("in_doubt", "in_doubt", WHY), ("unconfirmed", 1, "w1", "in_doubt", REASON)),
        (TryLater("429", REASON), ("try_later", "429", WHY), ("queued", 1, None, "429", REASON)),
        (TryLater("429", REASON, counted=False), ("try_later", "429", WHY), ("queued", 0, None, "429", REASON)),
        (
            NotConnected(REASON),
            ("not_connected", "not_connected", WHY),
            ("queued", 0, None, "not_connected", REASON),
        ),
        (Halted("190", REASON), ("halted", "190", WHY), ("queued", 0, None, "190", REASON)),
        (Restricted("463", REASON), ("restricted", "restricted", WHY), ("queued", 0, None, "restricted", REASON)),
        (
            TryLater("429", REASON, most=1),
            ("try_later", "exhausted", stored(EXHAUSTED(tries=1, last=REASON))),
            ("failed", 1, None, "exhausted", EXHAUSTED(tries=1, last=REASON)),
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, tuple) else None,
)
async def test_a_try_is_kept_with_its_outcome(
    harness: OutboxHarness, outcome: Outcome, row: tuple[str, str, str], after: tuple[str, int, str | None, str, Reason]
) -> None:
    message_id = await tried(harness, outcome)
    assert await tries(harness, message_id) == [Try(1, harness.time.now, *row)]
    found = await stands(harness, message_id)
    assert (found.state, found.attempts, found.remote_id, found.error_code, found.error_reason) == after
    assert found.ended_at == (harness.time.now if found.state == "failed" else None)


async def replayed(harness: OutboxHarness, message_id: int) -> None:
    await harness.outbox.replay(harness.number.account_id, message_id)


async def canceled(harness: OutboxHarness, message_id: int) -> None:
    await harness.outbox.cancel(harness.number.account_id, message_id)


async def sent_again(harness: OutboxHarness, _message_id: int) -> None:
    await harness.outbox.settle_doubts(harness.number.account_id, harness.number.id, since=0.0, timeout=LATER)


async def put_back(harness: OutboxHarness, _message_id: int) -> None:
    await harness.database.write(lambda c: hold_after_restore.hold(c, harness.time.now))


DOUBT, LATE = InDoubt(REASON, "w1"), TryLater("429", REASON)
DECIDED = stored(PERSON_DECIDED(state=state("unconfirmed")))
QUEUED = stored(PERSON_DECIDED(state=state("queued")))


@pytest.mark.parametrize(
    ("outcome", "act", "row", "after"),
    [
        (DOUBT, replayed, ("replayed", "in_doubt", DECIDED), ("queued", 0, "", NOTHING)),
        (DOUBT, canceled, ("canceled", "in_doubt", DECIDED), ("canceled", 1, "in_doubt", REASON)),
        (LATE, canceled, ("canceled", "429", QUEUED), ("canceled", 1, "429", REASON)),
        (DOUBT, sent_again, ("resend", "in_doubt", stored(NO_RECEIPT())), ("queued", 1, "in_doubt", REASON)),
        (LATE, put_back, ("held", "restored", stored(RESTORED())), ("unconfirmed", 1, "restored", RESTORED())),
    ],
)
async def test_what_is_decided_about_a_message_is_kept_beside_its_tries(
    harness: OutboxHarness,
    outcome: Outcome,
    act: Callable[[OutboxHarness, int], Awaitable[None]],
    row: tuple[str, str, str],
    after: tuple[str, int, str, Reason],
) -> None:
    await harness.database.write(lambda c: c.exec_driver_sql("UPDATE accounts SET doubt = 'resend'") and None)
    message_id = await tried(harness, outcome)
    harness.time.now += 2 * LATER
    await act(harness, message_id)
    assert (await tries(harness, message_id))[1:] == [Try(1, harness.time.now, *row)]
    found = await stands(harness, message_id)
    assert (found.state, found.attempts, found.error_code, found.error_reason) == after
    assert found.ended_at == (harness.time.now if found.state == "canceled" else None)
    (other,) = (await harness.outbox.accept([harness.draft("628222")])).ids
    assert await tries(harness, other) == []


async def test_a_backup_that_was_put_back_holds_what_waits_and_nothing_else(harness: OutboxHarness) -> None:
    ids = (await harness.outbox.accept([harness.draft(f"6281{n}") for n in range(4)])).ids
    sent, flying = await harness.claim(2)
    await harness.outbox.record(sent, Sent("w1"))
    await harness.outbox.cancel(harness.number.account_id, ids[3])
    harness.time.now += LATER
    held = await harness.database.write(lambda c: hold_after_restore.hold(c, harness.time.now))
    assert held == 2
    assert flying.id == ids[1]
    found = [await stands(harness, one) for one in ids]
    assert [one.state for one in found] == ["sent", "unconfirmed", "unconfirmed", "canceled"]
    kept = [(await tries(harness, one))[-1:] for one in ids[1:3]]
    restored = ("held", "restored", stored(RESTORED()))
    assert kept == [[Try(1, harness.time.now, *restored)], [Try(0, harness.time.now, *restored)]]
    assert (
        await harness.outbox.settle_doubts(harness.number.account_id, harness.number.id, since=0.0, timeout=0.0) is None
    ), "nothing of it goes out without a person"


@pytest.mark.parametrize("status", ["sent", "delivered", "read", "failed"])
async def test_a_receipt_leaves_its_times_and_what_it_says(harness: OutboxHarness, status: str) -> None:
    message_id = await tried(harness, InDoubt(REASON, "w1"))
    number, at = harness.number, harness.time.now + 7
    event = StatusChanged(number.account_id, number.id, "w1", status, at, code="131026", reason="undeliverable")  # type: ignore[arg-type]
    await harness.database.write(lambda c: harness.outbox.receipt(c, event, at + 1))

    def times(connection):
        columns = "sent_at, delivered_at, read_at, ended_at, error_code, error_reason, doubt_until"
        return tuple(connection.exec_driver_sql(f"SELECT {columns} FROM messages").one())

    expected = {
        "sent": (at, None, None, None, "", "", None),
        "delivered": (at, at, None, None, "", "", None),
        "read": (at, at, at, None, "", "", None),
        "failed": (None, None, None, at, "131026", "undeliverable", None),
    }[status]
    assert await harness.database.read(times) == expected
    assert (await stands(harness, message_id)).state == status


@pytest.mark.parametrize(
    ("outcome", "state", "code", "reason"),
    [
        (Sent("w1"), "sent", "", NOTHING),
        (DOUBT, "unconfirmed", "unprocessable", NOT_RECORDED(error="ValueError")),
        (LATE, "failed", "unprocessable", NOT_RECORDED(error="ValueError")),
    ],
)
async def test_a_quarantined_message_says_why_unless_it_was_sent(
    harness: OutboxHarness, outcome: Outcome, state: str, code: str, reason: Reason
) -> None:
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    (claimed,) = await harness.claim()
    harness.time.now += LATER
    await harness.outbox.quarantine(claimed, outcome, NOT_RECORDED(error="ValueError"))
    found = await stands(harness, message_id)
    assert (found.state, found.error_code, found.error_reason) == (state, code, reason)
    assert found.ended_at == (harness.time.now if state == "failed" else None)
    times = await harness.database.read(lambda c: c.exec_driver_sql("SELECT sent_at FROM messages").scalar())
    assert times == (harness.time.now if state == "sent" else None)
