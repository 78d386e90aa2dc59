"""How far a broadcast has come, in the event log: accepted, running in steps of a percent, done; each step once."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from tests.harness.outbox import OutboxHarness, open_outbox_harness
from tests.sqlite import new_database

from kurir.accounts.tables import accounts
from kurir.broadcasts.broadcasts import Broadcast
from kurir.broadcasts.progress import COUNT_EVERY, MOST, Progress, _round
from kurir.broadcasts.start import start
from kurir.events import read
from kurir.events.tables import events as events_table
from kurir.kit.sealing import Sealing
from kurir.kit.url_rules import Allowed
from kurir.messages.channel_reports import InDoubt, Refused, Sent, StatusChanged
from kurir.messages.content import TemplateUse
from kurir.outbox.tables import messages
from kurir.reasons import as_written
from kurir.webhooks import endpoints


@pytest.fixture
async def harness(where: Path | str) -> AsyncIterator[OutboxHarness]:
    async with open_outbox_harness(where) as opened:
        yield opened


_people = itertools.count(1)


async def broadcast(harness: OutboxHarness, people: int) -> Broadcast:
    """To people who got none before: of each only one message is claimed at a time."""
    content = TemplateUse("promo", "id", [])
    recipients = [f"62812{n:07}" for n in itertools.islice(_people, people)]
    return (await start(harness.outbox, harness.number, recipients, content, harness.time()))[0]


async def send(harness: OutboxHarness, count: int) -> None:
    """So many of the waiting messages leave."""
    waiting = await harness.claim(count)
    assert len(waiting) == count
    for claimed in waiting:
        await harness.outbox.record(claimed, Sent(f"wamid.{claimed.id}"))


async def published(harness: OutboxHarness, kind: str = "broadcast_status") -> list[dict[str, Any]]:
    account = harness.number.account_id
    page = await harness.database.read(lambda c: read.after(c, account, 0, 5000, (kind,)))  # type: ignore[arg-type]
    return [json.loads(event.body)["data"] for event in page.events]


async def test_a_broadcast_is_accepted_runs_and_is_done(harness: OutboxHarness) -> None:
    made = await broadcast(harness, 3)
    progress = Progress(harness.database, harness.time)
    assert await progress.publish_all() == 0, "nothing has moved"
    await send(harness, 1)
    assert await progress.publish_all() == 1
    assert await progress.publish_all() == 0, "published already"
    await send(harness, 2)
    assert await progress.publish_all() == 1
    assert await progress.publish_all() == 0, "it is over"
    found = await published(harness)
    assert [(one["status"], one["counts"]) for one in found] == [
        ("accepted", {"queued": 3}),
        ("running", {"queued": 2, "sent": 1}),
        ("done", {"sent": 3}),
    ]
    assert {(one["bc_id"], one["number_id"], one["recipients"]) for one in found} == {(made.key, harness.number.key, 3)}


async def test_a_large_one_is_published_in_steps_of_a_percent(harness: OutboxHarness) -> None:
    await broadcast(harness, 300)
    progress = Progress(harness.database, harness.time)
    await send(harness, 2)
    assert await progress.publish_all() == 0
    await send(harness, 1)
    assert await progress.publish_all() == 1


async def test_of_a_single_message_its_own_events_say_everything(harness: OutboxHarness) -> None:
    await broadcast(harness, 1)
    await send(harness, 1)
    assert await Progress(harness.database, harness.time).publish_all() == 0
    assert await published(harness) == []
    assert [one["status"] for one in await published(harness, "message_status")] == ["sent"]


async def test_two_gateways_publish_a_step_once(harness: OutboxHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    await broadcast(harness, 2)
    await send(harness, 1)
    first, second = Progress(harness.database, harness.time), Progress(harness.database, harness.time)
    overtaken: list[int] = []
    write = harness.database.write

    async def overtaken_write(work: Any, **options: Any) -> Any:
        """The other gateway publishes between the first one's count and its transaction."""
        if not overtaken:
            overtaken.append(0)
            overtaken[0] = await second.publish_all()
        return await write(work, **options)

    monkeypatch.setattr(harness.database, "write", overtaken_write)
    assert await first.publish_all() == 0
    assert overtaken == [1]
    assert [one["status"] for one in await published(harness)] == ["accepted", "running"]


async def test_a_round_goes_on_where_the_last_one_ended(harness: OutboxHarness) -> None:
    for _ in range(MOST + 3):
        await broadcast(harness, 2)
    await send(harness, 2 * (MOST + 3))
    progress = Progress(harness.database, harness.time)
    assert await progress.publish_all() == MOST
    assert await progress.publish_all() == 3


async def test_only_running_broadcasts_are_looked_at(harness: OutboxHarness) -> None:
    """A round of an idle gateway is one statement, however many broadcasts there were."""
    for _ in range(5):
        await broadcast(harness, 2)
    await send(harness, 10)
    progress = Progress(harness.database, harness.time)
    assert await progress.publish_all() == 5
    asked = watched(harness)
    assert await progress.publish_all() == 0
    assert len([one for one in asked if one.startswith("SELECT")]) == 1


def watched(harness: OutboxHarness) -> list[str]:
    """The statements from now on."""
    asked: list[str] = []
    event.listen(
        harness.database.engine, "before_cursor_execute", lambda _c, _k, statement, *_more: asked.append(statement)
    )
    return asked


def counting(asked: list[str]) -> int:
    """How many of the statements count a broadcast's messages; forgets the statements."""
    count = sum("FROM messages" in one for one in asked)
    asked.clear()
    return count


async def test_a_round_in_which_nothing_has_moved_reads_no_message(harness: OutboxHarness) -> None:
    for _ in range(3):
        await broadcast(harness, 4)
    progress = Progress(harness.database, harness.time)
    asked = watched(harness)
    assert await progress.publish_all() == 0
    assert counting(asked) == 3, "a gateway that starts knows nothing of them"
    assert await progress.publish_all() == 0
    assert len([one for one in asked if one.startswith("SELECT")]) == 1
    assert counting(asked) == 0
    await send(harness, 1)
    asked.clear()
    assert await progress.publish_all() == 1
    assert counting(asked) == 3 + 1, "what is published is counted again in its transaction"
    assert await progress.publish_all() == 0
    assert counting(asked) == 0


async def test_what_happens_to_other_numbers_counts_no_message(harness: OutboxHarness) -> None:
    await broadcast(harness, 4)
    progress = Progress(harness.database, harness.time)
    await progress.publish_all()
    await harness.outbox.accept([harness.draft("628999", number_id=harness.other.id)])
    [claimed] = await harness.claim(1, harness.other)
    await harness.outbox.record(claimed, Sent("wamid.1"))
    asked = watched(harness)
    for _ in range(2):
        assert await progress.publish_all() == 0
    assert counting(asked) == 0


async def test_an_unchanged_round_costs_the_same_however_many_events_there_are(tmp_path: Path) -> None:
    """Steps of SQLite's machine, which do not depend on what else the computer does."""
    async with open_outbox_harness(new_database(tmp_path / "kurir.db")) as harness:
        for _ in range(3):
            await broadcast(harness, 4)

        def cost(connection: sa.Connection) -> int:
            known = _round(connection, 0, {}, 1.0).counted
            steps: list[int] = []
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.set_progress_handler(lambda: steps.append(1), 10)
            assert _round(connection, 0, known, 1.0).counts == []
            driver.set_progress_handler(None, 0)
            return len(steps)

        def add(connection: sa.Connection) -> None:
            row = {"account_id": harness.number.account_id, "number_id": harness.other.id, "type": "incoming_chat"}
            rows = [{**row, "key": f"k{n}", "chat": "", "body": "", "created_at": 0.0} for n in range(20_000)]
            connection.execute(events_table.insert(), rows)

        with harness.database.transaction() as connection:
            few = cost(connection)
            add(connection)
            assert 0 < cost(connection) <= 1.2 * few


async def test_it_is_counted_now_and_then_whatever_the_log_says(harness: OutboxHarness) -> None:
    """An event that could not be encoded is in the quarantine, not in the log."""
    await broadcast(harness, 2)
    progress = Progress(harness.database, harness.time)
    await progress.publish_all()
    await send(harness, 2)
    await harness.database.write(
        lambda c: c.execute(events_table.delete().where(events_table.c.type == "message_status"))
    )
    assert await progress.publish_all() == 0
    harness.time.now += COUNT_EVERY
    assert await progress.publish_all() == 1
    assert [one["status"] for one in await published(harness)] == ["accepted", "done"]


async def test_what_is_over_is_forgotten(harness: OutboxHarness) -> None:
    for _ in range(MOST + 3):
        await broadcast(harness, 2)
    progress = Progress(harness.database, harness.time)
    await progress.publish_all()
    await progress.publish_all()
    assert len(progress._counted) == MOST + 3
    await send(harness, 2 * (MOST + 3))
    for _ in range(4):
        await progress.publish_all()
    assert progress._counted == {}


async def test_an_endpoint_may_ask_for_it_and_not_for_what_concerns_no_number(harness: OutboxHarness) -> None:
    def add(connection: sa.Connection, *kinds: str) -> endpoints.Endpoint:
        return endpoints.add(
            connection,
            Sealing(bytes(32)),
            harness.number.account_id,
            "https://example.com/",
            allowed=Allowed.parse(""),
            now=1.0,
            events=kinds,
        )[0]

    added = await harness.database.write(lambda c: add(c, "broadcast_status"))
    assert added.events == ("broadcast_status",)
    with pytest.raises(endpoints.EndpointError, match="expected one of"):
        await harness.database.write(lambda c: add(c, "contact_list_changed"))


async def test_what_moves_between_the_count_and_its_transaction_is_in_the_event(
    harness: OutboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has said by then what became of the message: the event after it does not contradict that."""
    await broadcast(harness, 2)
    (first, second) = await harness.claim(2)
    await harness.outbox.record(first, Sent("w1"))
    progress = Progress(harness.database, harness.time)
    write, moved = harness.database.write, False

    async def write_late(work: Any, **options: Any) -> Any:
        nonlocal moved
        if not moved:
            moved = True
            await harness.outbox.record(second, Refused("131026", as_written("not on WhatsApp")))
        return await write(work, **options)

    monkeypatch.setattr(harness.database, "write", write_late)
    assert await progress.publish_all() == 1
    assert [(one["status"], one["counts"]) for one in (await published(harness))[1:]] == [
        ("done", {"failed": 1, "sent": 1})
    ]


async def in_doubt(harness: OutboxHarness, doubt: str) -> None:
    """Of a broadcast to two people one message has left, the other may have; the account has chosen what follows."""
    await harness.database.write(lambda c: c.execute(accounts.update().values(doubt=doubt)) and None)
    await broadcast(harness, 2)
    first, second = await harness.claim(2)
    await harness.outbox.record(first, Sent("w1"))
    await harness.outbox.record(second, InDoubt(as_written("cut off")), 10.0)


async def settle(harness: OutboxHarness) -> None:
    number = harness.number
    await harness.outbox.settle_doubts(number.account_id, number.id, since=0.0, timeout=10.0)


async def statuses(harness: OutboxHarness) -> list[tuple[str, dict[str, int]]]:
    return [(one["status"], one["counts"]) for one in (await published(harness))[1:]]


async def test_it_is_not_done_while_a_message_in_doubt_may_go_out_once_more(harness: OutboxHarness) -> None:
    """After `done` nothing more is sent by itself, so nothing becomes unconfirmed, failed or expired any more."""
    await in_doubt(harness, "resend")
    progress = Progress(harness.database, harness.time)
    await progress.publish_all()
    assert await statuses(harness) == [("running", {"sent": 1, "unconfirmed": 1})]
    harness.time.now += 3_000.0
    await settle(harness)
    assert await progress.publish_all() == 0
    (again,) = await harness.claim(1)
    await harness.outbox.record(again, InDoubt(as_written("cut off again")), 10.0)
    harness.time.now += COUNT_EVERY
    await progress.publish_all()
    assert [status for status, _ in await statuses(harness)] == ["running"]
    harness.time.now += 3_000.0  # its time is over: it is held
    await settle(harness)
    await progress.publish_all()
    assert (await statuses(harness))[-1] == ("done", {"sent": 1, "unconfirmed": 1})
    assert await harness.claim(1) == []


async def test_a_message_in_doubt_that_is_held_is_done(harness: OutboxHarness) -> None:
    await in_doubt(harness, "hold")
    await Progress(harness.database, harness.time).publish_all()
    assert await statuses(harness) == [("done", {"sent": 1, "unconfirmed": 1})]


async def test_a_receipt_ends_a_doubt_and_the_broadcast(harness: OutboxHarness) -> None:
    await in_doubt(harness, "resend")
    progress = Progress(harness.database, harness.time)
    await progress.publish_all()
    number = harness.number
    doubted = sa.select(messages.c.id).where(messages.c.state == "unconfirmed")
    message_id = await harness.database.read(lambda c: c.execute(doubted).scalar_one())
    came = StatusChanged(number.account_id, number.id, "w2", "delivered", 1.0, message_id=message_id)
    await harness.database.write(lambda c: harness.outbox.receipt(c, came, harness.time()) and None)
    await progress.publish_all()
    assert (await statuses(harness))[-1] == ("done", {"delivered": 1, "sent": 1})


async def test_a_doubt_of_a_number_that_sends_no_more_ends_with_the_messages_time(harness: OutboxHarness) -> None:
    """No lane settles it, because the number was removed."""
    await in_doubt(harness, "resend")
    progress = Progress(harness.database, harness.time)
    await progress.publish_all()
    harness.time.now += 4_000.0
    await progress.publish_all()
    assert (await statuses(harness))[-1] == ("done", {"sent": 1, "unconfirmed": 1})
