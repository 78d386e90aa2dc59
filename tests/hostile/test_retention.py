"""What is old is forgotten by its setting, a few rows at a time; nothing that is still needed, and nobody waits."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from structlog.testing import capture_logs
from tests.harness.outbox import OutboxHarness, open_outbox_harness
from tests.sentences import all_english

from kurir import maintenance
from kurir.broadcasts import broadcasts
from kurir.cli.doctor import kept_findings
from kurir.events import retention as event_retention
from kurir.inbox import WINDOW, Inbox, window_open_until
from kurir.inbox import retention as received
from kurir.kit.ids import first_id_at
from kurir.kit.tasks import TaskHealth
from kurir.leases import Alone
from kurir.maintenance import MaintenanceJob
from kurir.messages.channel_reports import ConnectionChanged, Quarantined, Received
from kurir.messages.lifecycle import STATES
from kurir.numbers import numbers
from kurir.otp import retention as otp
from kurir.outbox import retention
from kurir.quarantine import quarantine
from kurir.reasons import as_written
from kurir.schema import tables
from kurir.settings import Settings, SettingsError
from kurir.store import chunked_deletes
from kurir.store.database import DatabaseUnavailable
from kurir.webhooks import history

DAY = 86_400.0
OLD, YOUNG = 100 * DAY, 10 * DAY
ROWS = int(os.environ.get("KURIR_RETENTION_ROWS", "20000"))


@pytest.fixture
async def harness(where: Path | str) -> AsyncIterator[OutboxHarness]:
    async with open_outbox_harness(where) as found:
        yield found


def at(harness: OutboxHarness, age: float) -> float:
    return harness.time.now - age


def limit(harness: OutboxHarness) -> float:
    return at(harness, 90 * DAY)


async def add(harness: OutboxHarness, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    await harness.database.write(lambda c: c.execute(sa.insert(table), rows) and None)


async def count(harness: OutboxHarness, table: sa.Table) -> int:
    return await harness.database.read(lambda c: c.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


def message(harness: OutboxHarness, n: int, age: float, **changes: Any) -> dict[str, Any]:
    created = at(harness, age)
    return {
        "id": first_id_at(created) + n,
        "account_id": harness.number.account_id,
        "number_id": harness.number.id,
        "recipient": f"628{n}0{age:.0f}",
        "kind": "text",
        "content": '{"type":"text","body":"halo"}',
        "state": "read",
        "broadcast_id": None,
        "created_at": created,
        "due_at": created,
        "expires_at": created + DAY,
        **changes,
    }


def attempt(harness: OutboxHarness, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "account_id": row["account_id"],
        "message_id": row["id"],
        "number": 1,
        "ended_at": row["created_at"],
        "outcome": "sent",
    }


# -- what goes and what stays ------------------------------------------------------------------------------------------


async def test_old_messages_go_with_their_tries_whatever_end_they_came_to_and_no_others(harness: OutboxHarness) -> None:
    rows = [message(harness, n, age, state=state) for age in (OLD, YOUNG) for n, state in enumerate(STATES)]
    await add(harness, tables["messages"], rows)
    await add(harness, tables["attempts"], [attempt(harness, row) for row in rows])
    open_ = {"queued", "sending", "unconfirmed"}
    assert await retention.forget_messages(harness.database, limit(harness)) == len(STATES) - len(open_)
    left = await harness.database.read(
        lambda c: c.execute(sa.select(tables["messages"].c.id, tables["messages"].c.state)).all()
    )
    expected = {row["id"] for row in rows if row["created_at"] > limit(harness) or row["state"] in open_}
    assert {row.id for row in left} == expected
    tried = await harness.database.read(lambda c: set(c.execute(sa.select(tables["attempts"].c.message_id)).scalars()))
    assert tried == expected


async def test_a_message_that_is_replayed_while_it_is_forgotten_stays(harness: OutboxHarness) -> None:
    row = message(harness, 1, OLD, state="failed")
    await add(harness, tables["messages"], [row])
    await harness.outbox.replay(harness.number.account_id, row["id"])  # after it was found, before it is removed
    assert await harness.database.write(lambda c: retention.remove_messages(c, [row["id"]])) == 0
    assert await harness.state(row["id"]) == "queued"


async def test_a_broadcast_is_whole_while_it_runs_and_goes_with_its_last_message(harness: OutboxHarness) -> None:
    ids = [first_id_at(at(harness, OLD)) + n for n in (1, 2, 3)]
    own = {
        "account_id": harness.number.account_id,
        "number_id": harness.number.id,
        "template_name": "x",
        "recipients": 2,
    }
    await add(
        harness, tables["broadcasts"], [{**own, "id": n, "key": f"bc{n}", "created_at": at(harness, OLD)} for n in ids]
    )
    running = [
        message(harness, n, OLD, broadcast_id=ids[0], state=s) for n, s in enumerate(("read", "queued", "failed"))
    ]
    over = [message(harness, n, OLD, broadcast_id=ids[1]) for n in range(10, 13)]
    await add(harness, tables["messages"], running + over)
    assert await retention.forget_messages(harness.database, limit(harness)) == 3
    assert await broadcasts.forget(harness.database, limit(harness)) == 2
    assert await count(harness, tables["messages"]) == 3
    progress = await harness.database.read(
        lambda c: broadcasts.progress(c, harness.number.account_id, ids[0], harness.time.now)
    )
    assert progress.by_state == {"read": 1, "queued": 1, "failed": 1}


def incoming(harness: OutboxHarness, n: int, age: float, path: str = "") -> dict[str, Any]:
    media = msgspec.json.encode({"mime": "image/png", "path": path}).decode() if path else ""
    return {
        "account_id": harness.number.account_id,
        "number_id": harness.number.id,
        "remote_id": f"m{n}",
        "chat": "628",
        "at": at(harness, age),
        "stored_at": at(harness, age),
        "kind": "image",
        "media": media,
    }


async def test_received_messages_go_with_their_files_and_orphans_are_swept_up(
    harness: OutboxHarness, tmp_path: Path
) -> None:
    folder = tmp_path / "incoming"
    of_number = folder / str(harness.number.id)  # where linked devices put them
    of_number.mkdir(parents=True)
    os.utime(of_number, (at(harness, 400.0), at(harness, 400.0)))

    def file(name: str, age: float) -> str:
        path = of_number / name
        path.write_bytes(b"x")
        os.utime(path, (at(harness, age), at(harness, age)))
        return str(path)

    elsewhere = tmp_path / "elsewhere.png"
    elsewhere.write_bytes(b"another gateway's, or whatever a row may name")
    await add(
        harness,
        tables["incoming"],
        [
            incoming(harness, 1, OLD, file("old.png", OLD)),
            incoming(harness, 2, OLD, str(elsewhere)),
            incoming(harness, 3, OLD),
            incoming(harness, 4, YOUNG, file("young.png", YOUNG)),
            # fetched long before its message could be stored: the gateway was down
            incoming(harness, 5, YOUNG, file("late.png", OLD)),
        ],
    )
    file("orphan.png", OLD)
    file("orphan-young.png", YOUNG)
    assert await received.forget_messages(harness.database, folder, limit(harness)) == 3
    assert sorted(path.name for path in list(of_number.iterdir())) == ["late.png", "orphan-young.png", "young.png"]
    assert await asyncio.to_thread(elsewhere.exists)


async def test_a_received_file_stays_when_the_removal_of_its_row_fails(
    harness: OutboxHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "1" / "a.png"
    path.parent.mkdir()
    path.write_bytes(b"x")
    await add(harness, tables["incoming"], [incoming(harness, 1, OLD, str(path))])

    async def write(work: Any, **_more: Any) -> Any:
        raise DatabaseUnavailable("the disk is full")

    monkeypatch.setattr(harness.database, "write", write)
    with pytest.raises(DatabaseUnavailable):
        await received.forget_messages(harness.database, tmp_path, limit(harness))
    assert await asyncio.to_thread(path.exists)


async def test_only_windows_that_closed_long_ago_go(harness: OutboxHarness) -> None:
    own = {"account_id": harness.number.account_id, "number_id": harness.number.id}
    people = [
        {**own, "person": f"628{n}", "last_incoming_at": at(harness, OLD if n % 3 else 60.0)} for n in range(1_200)
    ]
    await add(harness, tables["windows"], people)
    assert await received.forget_windows(harness.database, limit(harness)) == 800
    assert await count(harness, tables["windows"]) == 400


async def test_codes_and_wrong_checks_go_and_open_codes_stay(harness: OutboxHarness) -> None:
    own = {"account_id": harness.number.account_id}
    ages = [(2 * DAY, True), (2 * DAY, False), (0.0, True), (-3_000.0, False)]
    codes = [
        {**own, "code_hash": str(n), "request_hash": str(n), "phone": "628", "created_at": at(harness, age + 60)}
        | {"expires_at": at(harness, age), "used_at": at(harness, age) if used else None}
        for n, (age, used) in enumerate(ages)
    ]
    await add(harness, tables["otps"], codes)
    check = {**own, "scope": "open", "digits": 6, "process": 1}
    await add(
        harness, tables["otp_checks"], [{**check, "minute": int(at(harness, age) // 60)} for age in (2 * DAY, 60.0)]
    )
    assert await otp.forget(harness.database, at(harness, DAY)) == 3
    assert await count(harness, tables["otps"]) == 2
    assert await count(harness, tables["otp_checks"]) == 1


async def test_what_a_webhook_has_not_delivered_stays_whatever_its_age(harness: OutboxHarness) -> None:
    own = {"account_id": harness.number.account_id, "number_id": harness.number.id}
    hook = {"account_id": own["account_id"], "key": "ep", "url": "https://x/", "active_since": 0.0, "created_at": 0.0}
    hook["after_event"] = 5
    await add(harness, tables["webhook_endpoints"], [hook, {**hook, "key": "ep2"}])
    states = ["waiting", "pending", "sending", "delivered", "failed", "canceled"]
    event = {**own, "type": "x", "created_at": at(harness, OLD)}
    events = [{**event, "id": n + 1, "key": f"e{n}"} for n in range(len(states))]
    await add(harness, tables["events"], events)
    ended = {"delivered", "failed", "canceled"}
    deliveries = [
        {**own, "endpoint_id": 1, "event_id": n + 1, "chat": "", "state": state, "due_at": 0.0}
        | {"created_at": at(harness, OLD), "ended_at": at(harness, OLD) if state in ended else None}
        for n, state in enumerate(states)
    ]
    # the fourth event got through to one endpoint and is still on its way to the other
    deliveries.append({**deliveries[1], "endpoint_id": 2, "event_id": 4})
    await add(harness, tables["webhook_deliveries"], deliveries)
    assert await history.forget(harness.database, limit(harness)) == 3
    # an event stays with its last delivery, and until every endpoint was asked whether it wants it
    assert await event_retention.forget(harness.database, limit(harness), history.NEEDED) == 1
    left = await harness.database.read(lambda c: set(c.execute(sa.select(tables["events"].c.id)).scalars()))
    assert left == {1, 2, 3, 4, 6}


async def test_quarantine_callbacks_requests_and_early_receipts_go_in_their_time(harness: OutboxHarness) -> None:
    own = {"account_id": harness.number.account_id, "number_id": harness.number.id}
    for n, age in enumerate((OLD, YOUNG)):
        entry = Quarantined(own["account_id"], own["number_id"], "inbox", str(n), "no", b"")
        await harness.database.write(lambda c, e=entry, a=age: quarantine.add(c, e, at(harness, a)))
        await add(
            harness, tables["callbacks"], [{**own, "fingerprint": str(n), "body": "", "stored_at": at(harness, age)}]
        )
        key = {"account_id": own["account_id"], "key_hash": str(n), "created_at": at(harness, age)}
        await add(harness, tables["idempotency"], [key])
        early = {**own, "remote_id": str(n), "status": "read", "at": 1.0, "stored_at": at(harness, age)}
        await add(harness, tables["early_receipts"], [early])
    assert await quarantine.forget(harness.database, limit(harness)) == 1
    assert await received.forget_callbacks(harness.database, limit(harness)) == 1
    assert await retention.forget_requests(harness.database, limit(harness)) == 1
    assert await retention.forget_early_receipts(harness.database, limit(harness)) == 1
    for table in (tables["quarantine"], tables["callbacks"], tables["idempotency"], tables["early_receipts"]):
        assert await count(harness, table) == 1


async def test_more_than_a_chunk_goes_in_chunks(harness: OutboxHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_deletes, "MOST", 250)
    await add(harness, tables["messages"], [message(harness, n, OLD) for n in range(1_000)])
    sizes: list[int] = []
    real = retention.remove_messages

    def remove(connection: Connection, ids: list[int]) -> int:
        sizes.append(len(ids))
        return real(connection, ids)

    monkeypatch.setattr(retention, "remove_messages", remove)
    assert await retention.forget_messages(harness.database, limit(harness)) == 1_000
    assert len(sizes) >= 4 and max(sizes) <= 250


# -- rounds ------------------------------------------------------------------------------------------------------------


async def test_one_job_that_fails_keeps_no_other_from_being_done() -> None:
    done: list[str] = []

    def job(name: str, error: Exception | None) -> MaintenanceJob:
        async def work(_now: float) -> int:
            if error is not None:
                raise error
            done.append(name)
            return 1

        return MaintenanceJob(name, work)

    todo = [
        job("a", RuntimeError("a mistake of ours")),
        job("b", DatabaseUnavailable("away")),
        job("c", OSError("no folder")),
        job("d", None),
    ]
    health = TaskHealth()
    with capture_logs() as lines:
        assert await maintenance.go_round(todo, lambda: 1.0, health) == {"d": 1}
    assert done == ["d"]
    assert all_english(health.failures()) == ["the task maintenance a keeps failing (RuntimeError)"]
    assert {line.get("job") for line in lines if line["log_level"] in ("warning", "error")} == {"a", "b", "c"}


class Anything:
    """Stands where a part would: only its names are looked at."""

    def __getattr__(self, name: str) -> Any:
        return name


@pytest.mark.parametrize(
    "setting", ["message_days", "received_days", "media_days", "quarantine_days", "webhook_days", "event_days"]
)
def test_zero_keeps_for_ever(setting: str) -> None:
    everything = Settings()
    some = Settings(**{setting: 0})
    parts: Any = {name: Anything() for name in ("media", "outbox", "deliverer", "templates")}
    before = {job.name for job in maintenance.jobs(everything, Anything(), **parts)}
    after = {job.name for job in maintenance.jobs(some, Anything(), **parts)}
    # files of sent messages never stay longer than these
    gone = {one.what for one in maintenance.kept(everything) if one.setting == setting} - {"media"}
    assert before - after == gone
    assert all(
        f"KURIR_{one.setting.upper()}" in detail
        for one, (_, _, detail) in zip(maintenance.kept(some), kept_findings(some), strict=True)
    )


@pytest.mark.parametrize(("setting", "least"), [("message_days", 2), ("received_days", 2), ("callback_days", 8)])
def test_what_others_still_need_cannot_be_forgotten_too_early(setting: str, least: int) -> None:
    with pytest.raises(SettingsError, match=f"KURIR_{setting.upper()}"):
        Settings.load({f"KURIR_{setting.upper()}": str(least - 1)})
    for fine in (0, least):
        assert getattr(Settings.load({f"KURIR_{setting.upper()}": str(fine)}), setting) == fine


async def test_an_accept_does_not_wait_while_much_is_forgotten(tmp_path: Path) -> None:
    """After days of downtime there is much to forget: the median accept meanwhile is compared with a quiet one."""
    async with open_outbox_harness(tmp_path / "kurir.db") as harness:
        for start in range(0, ROWS, 5_000):
            rows = [message(harness, n, OLD) for n in range(start, min(start + 5_000, ROWS))]
            await add(harness, tables["messages"], rows)
            await add(harness, tables["attempts"], [attempt(harness, row) for row in rows])
        harness.outbox._queue_limit = 10**9
        quiet = [await accepted(harness) for _ in range(150)]
        forgetting = asyncio.create_task(retention.forget_messages(harness.database, limit(harness)))
        busy: list[float] = []
        while not forgetting.done():
            busy.append(await accepted(harness))
        assert await forgetting == ROWS
        assert len(busy) > 100
        again = [await accepted(harness) for _ in range(150)]
        ratio = statistics.median(busy) / statistics.median(quiet + again)
        print(  # noqa: T201 - the measure, for docs/measurements.md
            f"accept: quiet {1e3 * statistics.median(quiet + again):.2f} ms, while {ROWS:,} messages are forgotten "
            f"{1e3 * statistics.median(busy):.2f} ms ({ratio:.2f}), p99 {p99(quiet + again):.1f} and {p99(busy):.1f} ms"
        )
        assert ratio < 1.5


async def accepted(harness: OutboxHarness) -> float:
    began = time.perf_counter()
    await harness.outbox.accept([harness.draft()])
    return time.perf_counter() - began


def p99(seconds: list[float]) -> float:
    return 1e3 * sorted(seconds)[int(len(seconds) * 0.99)]


# -- rules about what is kept that had no test -------------------------------------------------------------------------


async def test_an_old_message_that_comes_late_does_not_shorten_the_window(harness: OutboxHarness) -> None:
    inbox = Inbox(harness.database, harness.outbox, harness.time, number_due=lambda *_: None)
    account_id, number_id = harness.number.account_id, harness.number.id
    for n, sent in enumerate((5_000.0, 1_000.0, 4_999.0)):
        await inbox.take([(Received(account_id, number_id, f"m{n}", "628", "628", "", sent, "text", "halo"), "")])
    until = await harness.database.read(lambda c: window_open_until(c, account_id, number_id, "628"))
    assert until == 5_000.0 + WINDOW
    await inbox.take([(Received(account_id, number_id, "m9", "628", "628", "", 6_000.0, "text", "halo"), "")])
    assert await harness.database.read(lambda c: window_open_until(c, account_id, number_id, "628")) == 6_000.0 + WINDOW


class Nobodys(Alone):
    """Another gateway carries every number, or did until a moment ago."""

    def __init__(self, *, held: bool) -> None:
        self._held = held

    def hold(self, number_id: int) -> Any:
        class Lost:
            def guard(self, _connection: Connection) -> bool:
                return False

        return Lost() if self._held else None


@pytest.mark.parametrize("held", [False, True])
async def test_a_gateway_that_does_not_hold_a_number_does_not_report_its_state(
    harness: OutboxHarness, held: bool
) -> None:
    number = harness.number

    async def hear(ownership: Any, state: str) -> str:
        inbox = Inbox(harness.database, harness.outbox, harness.time, number_due=lambda *_: None, ownership=ownership)
        await inbox.take([(ConnectionChanged(number.account_id, number.id, state, as_written("x"), 1.0), "")])
        found = await harness.database.read(lambda c: numbers.by_id(c, number.account_id, number.id))
        assert found is not None
        return "paused" if found.paused else found.state

    assert await hear(Alone(), "connected") == "connected"
    assert await hear(Nobodys(held=held), "logged_out") == "connected"
    assert await hear(Nobodys(held=held), "disconnected") == "connected"
    assert await hear(Nobodys(held=held), "paused") == "paused"  # Meta's word may come to any gateway
