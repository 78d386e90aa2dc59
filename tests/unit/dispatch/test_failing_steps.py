"""A lane whose steps fail: it goes on where it was, nothing is lost, and the log names the step and the message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs
from tests.harness.gateway import PHONE, Harness, open_harness, quarantined

from kurir.kit import crash_points
from kurir.kit.pauses import Pauses
from kurir.kit.tasks import Tasks
from kurir.messages.channel_reports import Halted, InDoubt, NeverLeft, Refused, Sent, TryLater, Unknown
from kurir.messages.content import Content, Image, MediaFile, Outgoing, Text
from kurir.numbers import numbers
from kurir.numbers import status as number_status
from kurir.outbox.message_rows import Snapshot
from kurir.outbox.outbox import Draft
from kurir.reasons import Reason, as_written, stored
from kurir.reasons import media as files
from kurir.reasons import messages as reasons
from kurir.store.database import DatabaseUnavailable
from kurir.webhooks.deliver import Deliverer

AWAY = DatabaseUnavailable("gone for a moment")
MISTAKE = RuntimeError("unforeseen")
PICTURE = Image("https://files.example.com/a.png")
FILE = MediaFile("/nowhere", "image/png", "a.png", 1, "0")
PAUSES = Pauses(sweep=0.01, after_failure=0.01, lane_idle=0.01, before_maintenance=3_600.0)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, pauses=PAUSES) as harness:
        yield harness


def breaks(owner: Any, name: str, *errors: Exception) -> None:
    """The next calls of that coroutine function raise these errors, one each."""
    original, left = getattr(owner, name), list(errors)

    async def broken(*arguments: Any, **options: Any) -> Any:
        if left:
            raise left.pop(0)
        return await original(*arguments, **options)

    setattr(owner, name, broken)


async def accept(harness: Harness, content: Content | None = None, **changes: Any) -> int:
    number = harness.ours.device
    draft = Draft(
        account_id=number.account_id, number_id=number.id, recipient=PHONE, content=content or Text("halo"), **changes
    )
    return (await harness.gateway.outbox.accept([draft])).ids[0]


async def ends(harness: Harness, message_id: int, *states: str) -> Snapshot:
    """The message, as soon as it is in one of these states."""
    async with asyncio.timeout(10):
        while True:
            found = await harness.gateway.outbox.snapshot(harness.ours.account.id, message_id)
            assert found is not None
            if found.state in states:
                return found
            await asyncio.sleep(0.005)


def lines_of(lines: Any, event: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "event"} for line in lines if line["event"] == event]


@pytest.mark.parametrize("step", ["lane", "outcome", "evidence", "sweep"])
async def test_a_step_that_the_database_did_not_answer_is_taken_again(harness: Harness, step: str) -> None:
    outbox = harness.gateway.outbox
    doubt, unknown = InDoubt(as_written("cut")), Unknown("w1")
    harness.devices.outcome = lambda _: doubt if step == "evidence" else Sent("w1")
    harness.devices.evidence_of = lambda _: unknown
    owner, name = {
        "lane": (outbox, "claim"),
        "outcome": (outbox, "record"),
        "evidence": (harness.devices, "evidence"),
        "sweep": (outbox, "expire"),
    }[step]
    with capture_logs() as lines:
        breaks(owner, name, AWAY)
        message_id = await accept(harness)
        async with asyncio.timeout(10):
            while not lines_of(lines, "database_unavailable"):
                await asyncio.sleep(0.005)
        found = await ends(harness, message_id, "unconfirmed" if step == "evidence" else "sent")
    assert found.remote_id == "w1"
    about = {
        "lane": {"number": harness.ours.device.key},
        "outcome": {"message_id": message_id},
        "evidence": {"message_id": message_id},
        "sweep": {},
    }[step]
    line = {"task": step, "reason": "gone for a moment", "log_level": "warning"}
    assert lines_of(lines, "database_unavailable") == [line | about]
    assert [sent.attempt for sent in harness.devices.sent] == [1]


async def test_a_channel_and_its_evidence_that_break_leave_a_doubt_that_says_so(harness: Harness) -> None:
    breaks(harness.devices, "send", MISTAKE)
    breaks(harness.devices, "evidence", MISTAKE)
    with capture_logs() as lines:
        message_id = await accept(harness)
        found = await ends(harness, message_id, "unconfirmed")
    assert (found.error_code, found.error_reason) == ("in_doubt", reasons.CHANNEL_BROKE())
    line = {"message_id": message_id, "exc_info": True, "log_level": "error"}
    assert lines_of(lines, "send_failed") == [line]
    assert lines_of(lines, "evidence_failed") == [line]


@pytest.mark.parametrize("failures", [1, 2, 3])
async def test_an_outcome_that_cannot_be_written_is_tried_three_times_and_then_quarantined(
    harness: Harness, failures: int
) -> None:
    breaks(harness.gateway.outbox, "record", *[MISTAKE] * failures)
    breaks(harness.gateway.outbox, "quarantine", AWAY, AWAY)  # that is tried for as long as it takes
    with capture_logs() as lines:
        message_id = await accept(harness)
        found = await ends(harness, message_id, "sent")
    assert found.remote_id == f"remote-{message_id}"
    line = {"message_id": message_id, "exc_info": True, "log_level": "error"}
    assert lines_of(lines, "outcome_failed") == [line | {"failures": n + 1} for n in range(failures)]
    entries = await harness.gateway.database.read(quarantined)
    expected = (
        [("outbox", str(message_id), stored(reasons.NOT_RECORDED(error="RuntimeError")))] if failures == 3 else []
    )
    assert [(entry.queue, entry.reference, entry.reason) for entry in entries] == expected
    assert len(harness.devices.sent) == 1


@pytest.mark.parametrize(
    ("found", "state", "code", "reason"),
    [
        (AWAY, "queued", "media_not_found", files.NOT_LOOKED_UP()),
        (None, "queued", "media_lost", files.LOST()),
        (MISTAKE, "failed", "media_failed", files.NOT_READ()),
    ],
    ids=["the database is away", "lost", "a mistake"],
)
async def test_a_file_that_cannot_be_read_when_its_message_leaves_costs_no_attempt(
    harness: Harness, found: Exception | None, state: str, code: str, reason: Reason
) -> None:
    media = harness.gateway.media

    async def fetched(*_of_message: object) -> MediaFile:
        return FILE

    async def whole(*_of_message: object) -> MediaFile | None:
        if isinstance(found, Exception):
            raise found
        return found

    media.prepare = fetched  # type: ignore[method-assign]
    media.whole_file = whole  # type: ignore[method-assign]
    with capture_logs() as lines:
        message_id = await accept(harness, PICTURE)
        async with asyncio.timeout(10):
            while (await ends(harness, message_id, "queued", "sending", "failed")).error_code != code:
                await asyncio.sleep(0.005)
    message = await ends(harness, message_id, state)
    assert (message.error_reason, message.attempts) == (reason, 0 if state == "queued" else 1)
    assert harness.devices.sent == []
    logged = [{"message_id": message_id, "exc_info": True, "log_level": "error"}] if found is MISTAKE else []
    assert lines_of(lines, "media_failed") == logged


async def test_the_channel_gets_the_whole_message_and_each_attempt_is_logged_and_counted(harness: Harness) -> None:
    evidence: list[Outgoing] = []
    outcomes = [TryLater("busy", as_written("too many"), after=0.0), InDoubt(as_written("cut")), Sent("w1")]
    harness.devices.outcome = lambda sent: outcomes[sent.attempt - 1]

    def known(outgoing: Outgoing) -> NeverLeft:
        evidence.append(outgoing)
        return NeverLeft()

    harness.devices.evidence_of = known
    with capture_logs() as lines:
        message_id = await accept(harness, typing=True)
        async with asyncio.timeout(10):
            while len(harness.devices.sent) < 2:
                await asyncio.sleep(0.005)
        # the second is retried after some seconds: a person's replay is sooner
        await ends(harness, message_id, "queued")
    first = Outgoing(message_id, PHONE, Text("halo"), typing=True, media=None, attempt=1)
    second = Outgoing(message_id, PHONE, Text("halo"), typing=True, media=None, attempt=2)
    assert harness.devices.sent == [first, second]
    assert evidence == [second]
    of_message = {"message_id": message_id, "number": harness.ours.device.key, "log_level": "info"}
    assert lines_of(lines, "send_attempted") == [
        of_message | {"attempt": 1, "state": "queued", "reason": "too many"},
        of_message | {"attempt": 2, "state": "queued", "reason": "cut"},
    ]
    counted = {
        tuple(sample.labels.values()): sample.value
        for family in harness.gateway.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "kurir_send_outcomes_total"
    }
    assert counted == {("linked_device", "try_later"): 1, ("linked_device", "in_doubt"): 1}


async def test_what_succeeds_has_no_reason_and_what_pauses_a_number_is_an_error_in_the_log(harness: Harness) -> None:
    number = harness.ours.device
    with capture_logs() as lines:
        fine = await accept(harness)
        await ends(harness, fine, "sent")
        harness.devices.outcome = lambda _: Halted("190", as_written("the token was refused"))
        halted = await accept(harness)
        async with asyncio.timeout(10):
            while not lines_of(lines, "number_paused"):
                await asyncio.sleep(0.005)
    of_number = {"number": number.key, "attempt": 1, "log_level": "info"}
    assert lines_of(lines, "send_attempted") == [
        of_number | {"message_id": fine, "state": "sent", "reason": None, "log_level": "debug"},
        of_number | {"message_id": halted, "state": "queued", "reason": "the token was refused"},
    ]
    paused = {"number": number.key, "code": "190", "reason": "the token was refused", "log_level": "error"}
    assert lines_of(lines, "number_paused") == [paused]
    stored = await harness.gateway.database.read(lambda c: numbers.by_id(c, number.account_id, number.id))
    assert stored is not None
    assert (stored.paused, stored.pause_reason) == (True, as_written("the token was refused"))


async def test_of_a_file_that_was_never_fetched_nobody_is_asked_for_evidence(harness: Harness) -> None:
    """After a crash: the message was claimed, and its file is not there."""
    asked: list[Outgoing] = []
    harness.devices.evidence_of = lambda outgoing: asked.append(outgoing) or Unknown()
    lane = await harness.gateway.dispatcher._opened(harness.ours.account.id, harness.ours.device.id)
    assert lane is not None
    del harness.gateway.dispatcher._lanes[lane.number.id]
    await harness.gateway.dispatcher.stop(0)  # so that no other lane takes them
    picture, text = await accept(harness, PICTURE), await accept(harness)
    claimed = (await harness.gateway.outbox.claim(lane.number.account_id, lane.number.id, 1, ready=[picture])).messages
    assert [one.id for one in claimed] == [picture]
    assert await lane._looked_into(claimed[0], InDoubt(as_written("cut"))) == TryLater("never_left", as_written("cut"))
    assert asked == []
    await harness.gateway.outbox.record(claimed[0], Refused("x", as_written("no")))
    (claimed_text,) = (await harness.gateway.outbox.claim(lane.number.account_id, lane.number.id, 1)).messages
    assert claimed_text.id == text
    doubt = InDoubt(as_written("cut"), "w1")
    assert await lane._looked_into(claimed_text, doubt) == doubt
    assert asked == [Outgoing(text, PHONE, Text("halo"), attempt=1)]


async def test_a_paused_number_claims_nothing_though_its_channel_is_ready(harness: Harness) -> None:
    """A pause counts from its commit on, also for a lane that has read the number before."""
    number = harness.ours.device
    await harness.gateway.database.write(
        lambda c: number_status.pause(c, number.account_id, number.id, as_written("stop"), harness.gateway.clock())
    )
    message_id = await accept(harness)
    for _ in range(3):
        harness.gateway.dispatcher.wake(number.account_id, number.id)
        await harness.signals.next("lane_turned")
    assert harness.devices.sent == []
    assert (await ends(harness, message_id, "queued")).attempts == 0
    paused = await harness.gateway.database.read(lambda c: numbers.by_id(c, number.account_id, number.id))
    assert paused is not None
    await harness.gateway.database.write(lambda c: number_status.resume(c, paused, harness.gateway.clock()))
    harness.gateway.dispatcher.wake(number.account_id, number.id)
    await ends(harness, message_id, "sent")


async def test_the_end_of_a_lane_is_logged_with_what_was_cut_off(harness: Harness) -> None:
    number, on_the_wire = harness.ours.device, asyncio.Event()

    async def hangs(*_of_message: object) -> Sent:
        on_the_wire.set()
        await asyncio.Event().wait()
        return Sent("never")

    harness.devices.send = hangs  # type: ignore[method-assign,assignment]
    await accept(harness)
    await asyncio.wait_for(on_the_wire.wait(), 10)
    with capture_logs() as lines:
        await harness.gateway.dispatcher.end(number.id, 0.01)
        await harness.gateway.dispatcher.end(number.id + 100, 0.01)
    assert lines_of(lines, "lane_ended") == [{"number": number.key, "cut_off": 1, "log_level": "info"}]


async def test_a_number_has_one_lane_however_often_it_is_notified(harness: Harness) -> None:
    number, dispatcher = harness.ours.device, harness.gateway.dispatcher
    opened: list[int] = []
    original = dispatcher._opened

    async def counted(account_id: int, number_id: int) -> Any:
        opened.append(number_id)
        return await original(account_id, number_id)

    dispatcher._opened = counted  # type: ignore[method-assign]
    harness.devices.connected = False  # so that the lane stays
    message_id = await accept(harness)
    for _ in range(5):
        dispatcher.wake(number.account_id, number.id)
        await harness.signals.next("lane_turned")
    assert opened == [number.id]
    assert dispatcher._kept == {number.id}
    harness.devices.connected = True
    dispatcher.wake(number.account_id, number.id)
    await ends(harness, message_id, "sent")
    async with asyncio.timeout(10):
        while dispatcher._kept or dispatcher._lanes:
            await asyncio.sleep(0.005)


class Kept:
    """What a part keeps running: name, whether it is vital and endless."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tasks: list[tuple[str, bool, bool]] = []

        def keep(_tasks: Tasks, name: str, work: Any, *, key: str = "", vital: bool = False, endless: bool = False):
            self.tasks.append((name, vital, endless))

        monkeypatch.setattr(Tasks, "keep", keep)


async def test_the_sweep_and_the_webhook_rounds_are_vital(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """While they fail nothing is sent or delivered any more: the process ends, and a supervisor starts it anew."""
    kept = Kept(monkeypatch)
    gateway = harness.gateway
    await gateway.dispatcher.start()
    await Deliverer(gateway.database, gateway.sealing, cast("Any", None), gateway.metrics, gateway.clock).start()
    assert kept.tasks == [("sweep", True, True), ("webhook-rounds", True, False)]


async def test_a_send_passes_a_crash_point_at_each_step(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []
    monkeypatch.setattr(crash_points, "reach", reached.append)
    await ends(harness, await accept(harness), "sent")
    steps = ["accept.committed", "claim.committed", "send.begun", "send.answered", "record.committed"]
    assert reached == steps
    assert set(steps) <= crash_points.POINTS
