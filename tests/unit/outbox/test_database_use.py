"""How the outbox asks the database: on whose account's turn it reads, what follows a commit, and what may not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from tests.harness.outbox import OutboxHarness, open_outbox

from kurir.kit import crash_points
from kurir.kit.metrics import Metrics
from kurir.messages.channel_reports import InDoubt, Refused, Sent, TryLater
from kurir.messages.content import Location
from kurir.outbox import outbox as module
from kurir.outbox.idempotency import Once
from kurir.outbox.outbox import NotSettledYet, Outbox, QueueFull
from kurir.reasons import as_written
from kurir.reasons.messages import NOT_RECORDED
from kurir.store.database import LONG_WORK, CommitUnknown, DatabaseUnavailable


class Asked:
    """What was asked of a database: each call with its options."""

    def __init__(self, harness: OutboxHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads: list[dict[str, Any]] = []
        self.writes: list[dict[str, Any]] = []
        read, write = harness.database.read, harness.database.write

        def noting(calls: list[dict[str, Any]], ask: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
            def noted(work: Any, **options: Any) -> Awaitable[Any]:
                calls.append(options)
                return ask(work, **options)

            return noted

        monkeypatch.setattr(harness.database, "read", noting(self.reads, read))
        monkeypatch.setattr(harness.database, "write", noting(self.writes, write))


READS: dict[str, Callable[[Outbox, int, int], Awaitable[object]]] = {
    "earlier": lambda outbox, account, _: outbox.earlier(Once(account, 60.0, key_hash="k")),
    "upcoming": lambda outbox, account, number: outbox.upcoming(account, number, 1.0),
    "left in flight": lambda outbox, account, number: outbox.left_in_flight(account, number),
    "doubts": lambda outbox, account, number: outbox.settle_doubts(account, number, since=1.0, timeout=1.0),
    "snapshot": lambda outbox, account, _: outbox.snapshot(account, 1),
    "waiting facts": lambda outbox, account, _: outbox.waiting_facts(account, 1),
}


@pytest.mark.parametrize("name", READS)
async def test_what_is_read_for_an_account_is_read_on_its_turn(
    harness: OutboxHarness, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked = Asked(harness, monkeypatch)
    await READS[name](harness.outbox, harness.number.account_id, harness.number.id)
    assert asked.reads == [{"of": harness.number.account_id}]
    assert asked.writes == []


async def test_what_looks_through_old_messages_reads_in_the_pool_for_lists(
    harness: OutboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(harness, monkeypatch)
    await harness.outbox.forget_messages(harness.time.now)
    assert asked.reads == [{"pool": "lists"}, {"pool": "lists"}]


async def test_a_callers_commit_may_be_left_unknown_and_a_quarantine_may_take_long(
    harness: OutboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(harness, monkeypatch)
    await harness.outbox.accept([harness.draft()], also=lambda _connection, ids: ids)
    assert asked.writes[-1]["in_haste"] is True
    (claimed,) = await harness.claim()
    await harness.outbox.quarantine(claimed, Refused("1", as_written("no")), NOT_RECORDED(error="ValueError"))
    assert asked.writes[-1]["timeout"] == LONG_WORK


async def test_where_the_commit_is_unknown_the_lane_looks_at_once_and_again(
    harness: OutboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unknown(*_arguments: Any, **_options: Any) -> None:
        raise CommitUnknown("no answer in time")

    monkeypatch.setattr(harness.database, "append", unknown)
    monkeypatch.setattr(module, "_LOOK_AGAIN", 0.01)
    number = (harness.number.account_id, harness.number.id)
    with pytest.raises(CommitUnknown):
        await harness.outbox.accept([harness.draft(), harness.draft()])
    assert harness.number_due == [number]
    async with asyncio.timeout(10):
        while len(harness.number_due) < 2:
            await asyncio.sleep(0.005)
    assert harness.number_due == [number] * 2
    assert harness.outbox.waiting() == 0


async def test_the_queue_takes_what_fits_for_each_account(harness: OutboxHarness) -> None:
    outbox = open_outbox(harness.database, harness.time, [], queue_limit=3)
    await outbox.accept([harness.draft()])
    with pytest.raises(QueueFull, match=r"^1 messages are waiting already$"):
        await outbox.accept([harness.draft()] * 3)
    await outbox.accept([harness.draft()] * 2)
    with pytest.raises(QueueFull, match=r"^3 messages"):
        await outbox.accept([harness.draft()])
    (claimed,) = (await outbox.claim(harness.number.account_id, harness.number.id, 1)).messages
    await outbox.record(claimed, Sent("w1"))
    await outbox.accept([harness.draft()])
    assert outbox.waiting() == 3


async def test_each_step_passes_its_crash_point(harness: OutboxHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []
    monkeypatch.setattr(crash_points, "reach", reached.append)
    await harness.outbox.accept([harness.draft()], also=lambda _connection, _ids: reached.append("also"))
    (claimed,) = await harness.claim()
    await harness.outbox.record(claimed, Sent("w1"))
    assert reached == ["accept.inserted", "also", "accept.committed", "claim.committed", "record.committed"]
    assert set(reached) - {"also"} <= crash_points.POINTS


def counted(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """The metric's samples by its labels."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name
    }


async def test_what_is_accepted_and_what_becomes_of_it_is_counted(harness: OutboxHarness) -> None:
    metrics = Metrics()
    outbox = open_outbox(harness.database, harness.time, [], metrics=metrics)
    place = msgspec.structs.replace(harness.draft("628222", origin="broadcast"), content=Location(1.0, 2.0))
    drafts = [harness.draft("628111"), harness.draft("628333"), harness.draft("628444")]
    await outbox.accept([*drafts, place])
    assert counted(metrics, "kurir_messages_accepted_total") == {("text", "api"): 3, ("location", "broadcast"): 1}
    claimed = (await outbox.claim(harness.number.account_id, harness.number.id, 10)).messages
    outcomes = (Sent("w1"), Refused("1", as_written("no")), InDoubt(as_written("cut")), TryLater("2", as_written("x")))
    for one, outcome in zip(claimed, outcomes, strict=True):
        await outbox.record(one, outcome)
    assert counted(metrics, "kurir_message_states_total") == {
        ("sent",): 1, ("failed",): 1, ("unconfirmed",): 1, ("queued",): 1,
    }  # fmt: skip
    assert outbox.waiting() == 1
    harness.time.now += 10
    (again,) = (await outbox.claim(harness.number.account_id, harness.number.id, 10)).messages
    await outbox.quarantine(again, Refused("1", as_written("no")), NOT_RECORDED(error="ValueError"))
    assert counted(metrics, "kurir_quarantined_total") == {("outbox",): 1}
    assert counted(metrics, "kurir_message_states_total")[("failed",)] == 2


async def test_a_message_that_cannot_be_read_now_is_not_reported_as_unknown(
    harness: OutboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids

    async def away(*_arguments: Any, **_options: Any) -> None:
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(harness.database, "read", away)
    with pytest.raises(NotSettledYet, match="gone"):
        await harness.outbox.wait_until_settled(harness.number.account_id, message_id, 1.0)


async def test_outcomes_that_nobody_here_waits_for_are_reported_to_other_gateways(harness: OutboxHarness) -> None:
    settled: list[tuple[int, int]] = []
    outbox = open_outbox(harness.database, harness.time, [], settled=lambda *message: settled.append(message))
    account_id, number_id = harness.number.account_id, harness.number.id
    drafts = [harness.draft(f"6281{n}", lifetime=lifetime) for n, lifetime in enumerate((60.0, 60.0, 30.0, 45.0))]
    ids = (await outbox.accept(drafts)).ids
    mine = asyncio.create_task(outbox.wait_until_settled(account_id, ids[0], 30))
    swept = asyncio.create_task(outbox.wait_until_settled(account_id, ids[2], 30))
    while not (outbox.awaits(ids[0]) and outbox.awaits(ids[2])):
        await asyncio.sleep(0)
    assert not outbox.awaits(ids[1])
    first, second = (await outbox.claim(account_id, number_id, 2)).messages
    await outbox.record(first, Sent("w1"))
    assert ((await mine).state, settled) == ("sent", [])
    await outbox.record(second, TryLater("1", as_written("later"), after=0.0))
    assert settled == []
    (again,) = (await outbox.claim(account_id, number_id, 1)).messages
    await outbox.record(again, Sent("w2"))
    assert settled == [(account_id, ids[1])]
    # of what expires another gateway's caller may wait too
    harness.time.now += 30
    assert await outbox.expire() == 1
    assert (await swept).state == "expired"
    harness.time.now += 15
    assert (await outbox.claim(account_id, number_id, 5)).messages == []
    assert settled[1:] == [(account_id, ids[2]), (account_id, ids[3])]
    assert outbox.waiting() == 0


async def test_a_look_resolves_only_what_was_settled(harness: OutboxHarness) -> None:
    """As after a notification: it may come early, or about a message that nobody here waits for."""
    account_id = harness.number.account_id
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    waits = asyncio.create_task(harness.outbox.wait_until_settled(account_id, message_id, 30))
    while not harness.outbox.awaits(message_id):
        await asyncio.sleep(0)
    await harness.outbox.look_at(account_id, message_id)
    assert harness.outbox.awaits(message_id)
    elsewhere = open_outbox(harness.database, harness.time, [])
    (claimed,) = (await elsewhere.claim(account_id, harness.number.id, 1)).messages
    await elsewhere.record(claimed, Sent("w1"))
    await harness.outbox.look_at(account_id + 1, message_id)
    assert not waits.done()
    await harness.outbox.look_at(account_id, message_id)
    assert (await waits).state == "sent"
