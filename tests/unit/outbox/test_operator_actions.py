"""What a person decides about single messages: replay and cancel, and what is seen of them."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from tests.harness.outbox import OutboxHarness

from kurir.messages.channel_reports import InDoubt, NotConnected, Outcome, Refused, Sent, StatusChanged, TryLater
from kurir.messages.content import Text
from kurir.outbox import operator_actions, record
from kurir.outbox.message_rows import Snapshot
from kurir.outbox.operator_actions import NotPossible
from kurir.outbox.tables import messages
from kurir.reasons import NOTHING, as_written
from kurir.reasons.messages import NOT_RECORDED


async def ended(harness: OutboxHarness, state: str, **draft) -> int:
    (message_id,) = (await harness.outbox.accept([harness.draft(**draft)])).ids
    if state == "expired":
        harness.time.now += 3600
        await harness.outbox.expire()
    elif state != "queued":
        (claimed,) = await harness.claim()
        outcome = {
            "failed": Refused("131026", as_written("no")),
            "unconfirmed": InDoubt(as_written("cut"), "w1"),
            "sent": Sent("w1"),
        }[state]
        await harness.outbox.record(claimed, outcome)
    assert await harness.state(message_id) == state
    return message_id


async def tries(harness: OutboxHarness, message_id: int) -> list[tuple[int, str]]:
    rows = await harness.database.read(lambda c: operator_actions.tries(c, harness.number.account_id, message_id))
    return [(one.number, one.outcome) for one in rows]


@pytest.mark.parametrize("state", ["failed", "expired", "unconfirmed"])
async def test_a_replay_is_a_new_life_with_all_its_tries(harness: OutboxHarness, state: str):
    message_id = await ended(harness, state)
    harness.number_due.clear()
    replayed = await harness.outbox.replay(harness.number.account_id, message_id)
    assert (replayed.state, replayed.attempts, replayed.error_reason, replayed.ended_at) == ("queued", 0, NOTHING, None)
    assert harness.number_due == [(harness.number.account_id, harness.number.id)]
    assert harness.outbox.waiting() == 1
    harness.time.now += 3599
    (claimed,) = await harness.claim()
    assert (claimed.id, claimed.attempt, claimed.content) == (message_id, 1, Text("halo"))
    await harness.outbox.record(claimed, Sent("w2"))
    assert await harness.state(message_id) == "sent"
    outcomes = [outcome for _, outcome in await tries(harness, message_id)]
    assert outcomes[-2:] == ["replayed", "sent"]
    assert harness.outbox.waiting() == 0


async def test_a_late_receipt_spares_a_replay_that_has_not_gone_out(harness: OutboxHarness):
    message_id = await ended(harness, "unconfirmed")
    await harness.outbox.replay(harness.number.account_id, message_id)
    event = StatusChanged(harness.number.account_id, harness.number.id, "w1", "delivered", harness.time.now)
    receipt = await harness.database.write(
        lambda c: harness.outbox.receipt(c, event, harness.time.now), after_commit=harness.outbox.receipt_committed
    )
    assert receipt.moved is not None
    assert await harness.state(message_id) == "delivered"
    assert await harness.claim() == []
    assert harness.outbox.waiting() == 0


@pytest.mark.parametrize("state", ["queued", "sent"])
async def test_what_goes_on_or_has_arrived_is_not_replayed(harness: OutboxHarness, state: str):
    message_id = await ended(harness, state)
    with pytest.raises(NotPossible, match=f"is {state}: only"):
        await harness.outbox.replay(harness.number.account_id, message_id)
    assert await harness.state(message_id) == state
    with pytest.raises(KeyError):
        await harness.outbox.replay(harness.number.account_id + 1, message_id)


async def test_an_erased_code_is_not_replayed_and_a_living_one_does_not_live_longer(harness: OutboxHarness):
    erased = await ended(harness, "failed", sealed=True, origin="otp", lifetime=60)
    with pytest.raises(NotPossible, match="one-time password"):
        await harness.outbox.replay(harness.number.account_id, erased)
    alive = await ended(harness, "unconfirmed", sealed=True, origin="otp", lifetime=60)
    await harness.outbox.replay(harness.number.account_id, alive)
    harness.time.now += 60
    assert await harness.claim() == []
    assert await harness.state(alive) == "expired"


@pytest.mark.parametrize("state", ["queued", "unconfirmed"])
async def test_cancel_ends_what_waits_and_notifies_waiters(harness: OutboxHarness, state: str):
    message_id = await ended(harness, state, sealed=True)
    settled = asyncio.create_task(harness.outbox.wait_until_settled(harness.number.account_id, message_id, 30))
    await asyncio.sleep(0)
    after = await harness.outbox.cancel(harness.number.account_id, message_id)
    assert (after.state, (await settled).state in {state, "canceled"}) == ("canceled", True)
    assert await harness.claim() == []
    assert harness.outbox.waiting() == 0
    assert (await tries(harness, message_id))[-1][1] == "canceled"
    with pytest.raises(NotPossible):
        await harness.outbox.cancel(harness.number.account_id, message_id)


async def test_what_waited_behind_a_canceled_message_may_go(harness: OutboxHarness):
    first, second = (await harness.outbox.accept([harness.draft(body="1"), harness.draft(body="2")])).ids
    (claimed,) = await harness.claim()
    await harness.outbox.record(claimed, NotConnected(as_written("off")))
    harness.number_due.clear()
    await harness.outbox.cancel(harness.number.account_id, first)
    assert harness.number_due == [(harness.number.account_id, harness.number.id)], (
        "the lane would look half a minute later"
    )
    (claimed,) = await harness.claim()
    assert claimed.id == second


@pytest.mark.parametrize(
    "late",
    [
        NotConnected(as_written("away")),
        TryLater("1", as_written("later"), after=0),
        Refused("x", as_written("no")),
        InDoubt(as_written("cut")),
        Sent("w1"),
    ],
    ids=lambda late: type(late).__name__,
)
async def test_a_late_result_from_before_a_replay_is_not_taken_for_the_try_in_flight(
    harness: OutboxHarness, late: Outcome
):
    """A gateway that was frozen, and taken for dead, tells what became of its try: a replay begins again with 1."""
    await harness.outbox.accept([harness.draft()])
    (old,) = await harness.claim()
    await harness.outbox.record(old, InDoubt(as_written("cut off")))
    harness.time.now += 10
    await harness.outbox.replay(harness.number.account_id, old.id)
    (new,) = await harness.claim()
    assert new.attempt == old.attempt
    after = await harness.outbox.record(old, late)
    assert (after.state, after.attempts) == ("sending", 1)
    await harness.outbox.quarantine(old, late, NOT_RECORDED(error="ValueError"))
    assert await harness.state(old.id) == "sending"
    assert await harness.claim() == [], "it would be sent twice"
    after = await harness.outbox.record(new, Sent("w2"))
    assert (after.state, after.remote_id) == ("sent", "w2")


@pytest.mark.parametrize(
    ("decision", "state", "moved_to"), [("cancel", "queued", "sending"), ("replay", "failed", "queued")]
)
async def test_a_message_that_moves_on_meanwhile_is_left_alone(
    harness: OutboxHarness, monkeypatch: pytest.MonkeyPatch, decision: str, state: str, moved_to: str
):
    """Another gateway may commit between the look at the message and the change: what it sends was not called off."""
    message_id = await ended(harness, state)
    look = record.by_id

    def overtaken(connection: sa.Connection, account_id: int, of: int) -> Snapshot | None:
        seen = look(connection, account_id, of)
        connection.execute(messages.update().where(messages.c.id == of).values(state=moved_to))
        return seen

    monkeypatch.setattr(record, "by_id", overtaken)
    with pytest.raises(NotPossible, match="has just moved on"):
        await getattr(harness.outbox, decision)(harness.number.account_id, message_id)
    assert [outcome for _, outcome in await tries(harness, message_id) if outcome in {"canceled", "replayed"}] == []


async def test_the_list_is_the_accounts_own_newest_first(harness: OutboxHarness):
    failed = await ended(harness, "failed")
    queued = await ended(harness, "queued")

    async def listed(account_id: int, state=None, limit: int = 10) -> list[int]:
        found = await harness.database.read(lambda c: operator_actions.listed(c, account_id, state, limit))
        return [message.id for message in found]

    ours = harness.number.account_id
    assert await listed(ours) == [queued, failed]
    assert await listed(ours, "failed") == [failed]
    assert await listed(ours, limit=1) == [queued]
    assert await listed(ours + 1) == []
    found = await harness.database.read(lambda c: operator_actions.get_any_account(c, failed))
    assert found is not None
    assert found.id == failed
