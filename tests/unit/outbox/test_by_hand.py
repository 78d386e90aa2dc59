"""What a person decides about single messages: replay and cancel, and what is seen of them."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from tests.unit.outbox.desk import Desk

from kurir.messages.content import Text
from kurir.messages.reports import InDoubt, NotConnected, Outcome, Refused, Sent, StatusChanged, TryLater
from kurir.outbox import operator_actions, record
from kurir.outbox.operator_actions import NotPossible
from kurir.outbox.rows import Snapshot
from kurir.outbox.tables import messages


async def ended(desk: Desk, state: str, **draft) -> int:
    (message_id,) = (await desk.outbox.accept([desk.draft(**draft)])).ids
    if state == "expired":
        desk.time.now += 3600
        await desk.outbox.expire()
    elif state != "queued":
        (claimed,) = await desk.claim()
        outcome = {"failed": Refused("131026", "no"), "unconfirmed": InDoubt("cut", "w1"), "sent": Sent("w1")}[state]
        await desk.outbox.record(claimed, outcome)
    assert await desk.state(message_id) == state
    return message_id


async def tries(desk: Desk, message_id: int) -> list[tuple[int, str]]:
    rows = await desk.database.read(lambda c: operator_actions.tries(c, desk.number.account_id, message_id))
    return [(one.number, one.outcome) for one in rows]


@pytest.mark.parametrize("state", ["failed", "expired", "unconfirmed"])
async def test_a_replay_is_a_new_life_with_all_its_tries(desk: Desk, state: str):
    message_id = await ended(desk, state)
    desk.number_due.clear()
    replayed = await desk.outbox.replay(desk.number.account_id, message_id)
    assert (replayed.state, replayed.attempts, replayed.error_reason, replayed.ended_at) == ("queued", 0, "", None)
    assert desk.number_due == [(desk.number.account_id, desk.number.id)]
    assert desk.outbox.waiting() == 1
    desk.time.now += 3599
    (claimed,) = await desk.claim()
    assert (claimed.id, claimed.attempt, claimed.content) == (message_id, 1, Text("halo"))
    await desk.outbox.record(claimed, Sent("w2"))
    assert await desk.state(message_id) == "sent"
    outcomes = [outcome for _, outcome in await tries(desk, message_id)]
    assert outcomes[-2:] == ["replayed", "sent"]
    assert desk.outbox.waiting() == 0


async def test_a_late_receipt_spares_a_replay_that_has_not_gone_out(desk: Desk):
    message_id = await ended(desk, "unconfirmed")
    await desk.outbox.replay(desk.number.account_id, message_id)
    event = StatusChanged(desk.number.account_id, desk.number.id, "w1", "delivered", desk.time.now)
    receipt = await desk.database.write(
        lambda c: desk.outbox.receipt(c, event, desk.time.now), after_commit=desk.outbox.receipt_committed
    )
    assert receipt.moved is not None
    assert await desk.state(message_id) == "delivered"
    assert await desk.claim() == []
    assert desk.outbox.waiting() == 0


@pytest.mark.parametrize("state", ["queued", "sent"])
async def test_what_goes_on_or_has_arrived_is_not_replayed(desk: Desk, state: str):
    message_id = await ended(desk, state)
    with pytest.raises(NotPossible, match=f"is {state}: only"):
        await desk.outbox.replay(desk.number.account_id, message_id)
    assert await desk.state(message_id) == state
    with pytest.raises(KeyError):
        await desk.outbox.replay(desk.number.account_id + 1, message_id)


async def test_an_erased_code_is_not_replayed_and_a_living_one_does_not_live_longer(desk: Desk):
    erased = await ended(desk, "failed", sealed=True, origin="otp", lifetime=60)
    with pytest.raises(NotPossible, match="one-time password"):
        await desk.outbox.replay(desk.number.account_id, erased)
    alive = await ended(desk, "unconfirmed", sealed=True, origin="otp", lifetime=60)
    await desk.outbox.replay(desk.number.account_id, alive)
    desk.time.now += 60
    assert await desk.claim() == []
    assert await desk.state(alive) == "expired"


@pytest.mark.parametrize("state", ["queued", "unconfirmed"])
async def test_cancel_ends_what_waits_and_tells_whoever_waits(desk: Desk, state: str):
    message_id = await ended(desk, state, sealed=True)
    verdict = asyncio.create_task(desk.outbox.verdict(desk.number.account_id, message_id, 30))
    await asyncio.sleep(0)
    after = await desk.outbox.cancel(desk.number.account_id, message_id)
    assert (after.state, (await verdict).state in {state, "canceled"}) == ("canceled", True)
    assert await desk.claim() == []
    assert desk.outbox.waiting() == 0
    assert (await tries(desk, message_id))[-1][1] == "canceled"
    with pytest.raises(NotPossible):
        await desk.outbox.cancel(desk.number.account_id, message_id)


async def test_what_waited_behind_a_canceled_message_may_go(desk: Desk):
    first, second = (await desk.outbox.accept([desk.draft(body="1"), desk.draft(body="2")])).ids
    (claimed,) = await desk.claim()
    await desk.outbox.record(claimed, NotConnected("off"))
    desk.number_due.clear()
    await desk.outbox.cancel(desk.number.account_id, first)
    assert desk.number_due == [(desk.number.account_id, desk.number.id)], "the lane would look half a minute later"
    (claimed,) = await desk.claim()
    assert claimed.id == second


@pytest.mark.parametrize(
    "late",
    [NotConnected("away"), TryLater("1", "later", after=0), Refused("x", "no"), InDoubt("cut"), Sent("w1")],
    ids=lambda late: type(late).__name__,
)
async def test_a_late_result_from_before_a_replay_is_not_taken_for_the_try_in_flight(desk: Desk, late: Outcome):
    """A gateway that was frozen, and taken for dead, tells what became of its try: a replay begins again with 1."""
    await desk.outbox.accept([desk.draft()])
    (old,) = await desk.claim()
    await desk.outbox.record(old, InDoubt("cut off"))
    desk.time.now += 10
    await desk.outbox.replay(desk.number.account_id, old.id)
    (new,) = await desk.claim()
    assert new.attempt == old.attempt
    after = await desk.outbox.record(old, late)
    assert (after.state, after.attempts) == ("sending", 1)
    await desk.outbox.set_aside(old, late, "its outcome could not be recorded")
    assert await desk.state(old.id) == "sending"
    assert await desk.claim() == [], "it would be sent twice"
    after = await desk.outbox.record(new, Sent("w2"))
    assert (after.state, after.remote_id) == ("sent", "w2")


@pytest.mark.parametrize(
    ("decision", "state", "moved_to"), [("cancel", "queued", "sending"), ("replay", "failed", "queued")]
)
async def test_a_message_that_moves_on_meanwhile_is_left_alone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, decision: str, state: str, moved_to: str
):
    """Another gateway may commit between the look at the message and the change: what it sends was not called off."""
    message_id = await ended(desk, state)
    look = record.by_id

    def overtaken(connection: sa.Connection, account_id: int, of: int) -> Snapshot | None:
        seen = look(connection, account_id, of)
        connection.execute(messages.update().where(messages.c.id == of).values(state=moved_to))
        return seen

    monkeypatch.setattr(record, "by_id", overtaken)
    with pytest.raises(NotPossible, match="has just moved on"):
        await getattr(desk.outbox, decision)(desk.number.account_id, message_id)
    assert [outcome for _, outcome in await tries(desk, message_id) if outcome in {"canceled", "replayed"}] == []


async def test_the_list_is_the_accounts_own_newest_first(desk: Desk):
    failed = await ended(desk, "failed")
    queued = await ended(desk, "queued")

    async def listed(account_id: int, state=None, limit: int = 10) -> list[int]:
        found = await desk.database.read(lambda c: operator_actions.listed(c, account_id, state, limit))
        return [message.id for message in found]

    ours = desk.number.account_id
    assert await listed(ours) == [queued, failed]
    assert await listed(ours, "failed") == [failed]
    assert await listed(ours, limit=1) == [queued]
    assert await listed(ours + 1) == []
    found = await desk.database.read(lambda c: operator_actions.get_any_account(c, failed))
    assert found is not None
    assert found.id == failed
