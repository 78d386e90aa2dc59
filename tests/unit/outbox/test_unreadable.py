"""A message that cannot be read, or whose outcome cannot be written: it leaves the queue, and what is known stays."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs
from tests.harness.gateway import quarantined
from tests.harness.outbox import OutboxHarness, open_outbox

from kurir.kit.metrics import Metrics
from kurir.messages.channel_reports import InDoubt, Refused, Sent
from kurir.outbox import unprocessable
from kurir.outbox.tables import messages
from kurir.reasons import NOTHING, as_written, stored
from kurir.reasons.messages import CONTENT_UNREADABLE, NOT_RECORDED
from kurir.store.database import DatabaseUnavailable

REASON = NOT_RECORDED(error="ValueError")


async def spoil(harness: OutboxHarness, message_id: int, content: str = "{spoilt") -> None:
    change = messages.update().where(messages.c.id == message_id).values(content=content)
    await harness.database.write(lambda c: c.execute(change) and None)


def counted(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name
    }


@pytest.mark.parametrize("when", ["claimed", "found in flight"])
@pytest.mark.parametrize("sealed", [False, True])
async def test_an_unreadable_message_is_quarantined_and_the_next_goes_on(
    harness: OutboxHarness, when: str, sealed: bool
) -> None:
    metrics, number = Metrics(), harness.number
    outbox = open_outbox(harness.database, harness.time, [], metrics=metrics)
    bad, good = (await outbox.accept([harness.draft(sealed=sealed), harness.draft("628222")])).ids
    if when == "found in flight":
        await outbox.claim(number.account_id, number.id, 1)
    await spoil(harness, bad)
    harness.time.now += 5
    with capture_logs() as lines:
        if when == "claimed":
            taken = (await outbox.claim(number.account_id, number.id, 10)).messages
        else:
            assert await outbox.left_in_flight(number.account_id, number.id) == []
            taken = (await outbox.claim(number.account_id, number.id, 10)).messages
    assert [one.id for one in taken] == [good]
    error = "SealError" if sealed else "DecodeError"
    reason = CONTENT_UNREADABLE(error=error)
    found = await outbox.snapshot(number.account_id, bad)
    assert found is not None
    state = "failed" if when == "claimed" else "unconfirmed"  # whether it left is unknown
    assert (found.state, found.attempts, found.error_code, found.error_reason) == (state, 1, "unprocessable", reason)
    assert found.ended_at == (harness.time.now if state == "failed" else None)
    (entry,) = await harness.database.read(quarantined)
    assert (entry.account_id, entry.number_id, entry.queue, entry.reference) == (
        number.account_id, number.id, "outbox", str(bad),
    )  # fmt: skip
    assert entry.reason == stored(reason)
    # what was sealed is not shown
    assert entry.payload == (b"" if sealed else b"{spoilt")
    line = {"event": "message_quarantined", "message_id": bad, "exc_info": True, "log_level": "error"}
    assert lines == [line]
    assert counted(metrics, "kurir_quarantined_total") == {("outbox",): 1}
    assert counted(metrics, "kurir_message_states_total") == {(state,): 1}
    assert outbox.waiting() == 1


async def test_of_a_file_ahead_that_cannot_be_read_only_the_id_is_known(harness: OutboxHarness) -> None:
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    image = messages.update().where(messages.c.id == message_id).values(kind="image", content="{spoilt")
    await harness.database.write(lambda c: c.execute(image) and None)
    number = harness.number
    upcoming = await harness.outbox.upcoming(number.account_id, number.id, harness.time.now)
    assert [(one.id, one.content) for one in upcoming.files] == [(message_id, None)]


@pytest.mark.parametrize(
    ("broken", "state", "remote_id", "entries", "logged"),
    [
        ("nothing", "sent", "w1", 1, []),
        ("the id", "sent", None, 1, [("w1", True)]),
        ("the entry", "sent", None, 0, [("w1", True), (None, True)]),
        ("everything", "sending", None, 0, [("w1", True), (None, True), (None, False)]),
    ],
)
async def test_what_cannot_be_written_with_it_does_not_leave_a_message_in_flight(
    harness: OutboxHarness,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    state: str,
    remote_id: str | None,
    entries: int,
    logged: list[tuple[str | None, bool]],
) -> None:
    original = unprocessable.end

    def end(connection: sa.Connection, **how: Any) -> Any:
        fails = {
            "nothing": False,
            "the id": how["remote_id"] is not None,
            "the entry": how["entry"],
            "everything": True,
        }[broken]
        if fails:
            raise ValueError(broken)
        return original(connection, **how)

    monkeypatch.setattr(unprocessable, "end", end)
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    (claimed,) = await harness.claim()
    with capture_logs() as lines:
        await harness.outbox.quarantine(claimed, Sent("w1"), REASON)
    found = await harness.outbox.snapshot(harness.number.account_id, message_id)
    assert found is not None
    assert (found.state, found.remote_id, found.error_reason) == (state, remote_id, NOTHING)
    assert len(await harness.database.read(quarantined)) == entries
    failed = [line for line in lines if line["event"] == "message_quarantine_failed"]
    assert failed == [
        {
            "event": "message_quarantine_failed",
            "message_id": message_id,
            "remote_id": known is not None,
            "entry": entry,
            "exc_info": True,
            "log_level": "error",
        }
        for known, entry in logged
    ]
    last = {
        "the entry": [{"event": "message_failed", "message_id": message_id, "state": "sent", "log_level": "critical"}],
        "everything": [{"event": "message_stuck", "message_id": message_id, "log_level": "critical"}],
    }.get(broken, [])
    assert [line for line in lines if line not in failed] == last
    assert harness.outbox.waiting() == (1 if broken == "everything" else 0)


async def test_without_an_id_there_are_two_ways(harness: OutboxHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    ways: list[tuple[str | None, bool]] = []

    def end(_connection: sa.Connection, **how: Any) -> None:
        ways.append((how["remote_id"], how["entry"]))
        raise ValueError("no")

    monkeypatch.setattr(unprocessable, "end", end)
    await harness.outbox.accept([harness.draft()])
    (claimed,) = await harness.claim()
    for outcome in (InDoubt(as_written("cut")), Refused("1", as_written("no"))):
        ways.clear()
        await harness.outbox.quarantine(claimed, outcome, REASON)
        assert list(dict.fromkeys(ways)) == [(None, True), (None, False)], "each is tried, maybe twice within its write"


async def test_while_the_database_is_away_a_quarantine_is_for_the_caller_to_repeat(
    harness: OutboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(_connection: sa.Connection, **_how: Any) -> None:
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(unprocessable, "end", end)
    await harness.outbox.accept([harness.draft()])
    (claimed,) = await harness.claim()
    with pytest.raises(DatabaseUnavailable):
        await harness.outbox.quarantine(claimed, Sent("w1"), REASON)


async def test_an_attempt_that_is_over_is_not_quarantined(harness: OutboxHarness) -> None:
    metrics = Metrics()
    outbox = open_outbox(harness.database, harness.time, [], metrics=metrics)
    number = harness.number
    (message_id,) = (await outbox.accept([harness.draft()])).ids
    (claimed,) = (await outbox.claim(number.account_id, number.id, 1)).messages
    await outbox.record(claimed, Sent("w1"))
    await outbox.quarantine(claimed, InDoubt(as_written("cut")), REASON)
    assert await harness.state(message_id) == "sent"
    assert await harness.database.read(quarantined) == []
    assert counted(metrics, "kurir_quarantined_total") == {}
    assert outbox.waiting() == 0
