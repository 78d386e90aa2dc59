"""Receipts outlive the processes that hear of them: what arrived is known to have arrived.

On the wire and under kills: `tests/reliability/test_kills.py`, whose accountant looks for what arrived unbeknown.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select
from sqlalchemy import event as sa_event
from tests.harness.outbox import OutboxHarness, open_outbox, open_outbox_harness
from tests.unit.linked_device.receiver_rig import ReceiverRig, receipt

from kurir.channels.linked_device.engine_host import incoming_messages
from kurir.messages.channel_reports import InDoubt, Sent, StatusChanged, TryLater
from kurir.outbox import early_receipts as early
from kurir.outbox.early_receipts import _LONGEST, LEFT, MOST
from kurir.outbox.tables import early_receipts, messages
from kurir.reasons import as_written


@pytest.fixture
async def harness(where: Path | str) -> AsyncIterator[OutboxHarness]:
    async with open_outbox_harness(where) as harness:
        yield harness


async def receive(harness: OutboxHarness, status: str, remote_id: str, number_id: int = 0, person: str = "") -> None:
    ids = (harness.number.account_id, number_id or harness.number.id)
    event = StatusChanged(*ids, remote_id, status, harness.time.now, person=person)
    await harness.database.write(lambda c: harness.outbox.receipt(c, event, harness.time.now))


async def kept(harness: OutboxHarness) -> int:
    return await harness.database.read(
        lambda c: c.execute(select(func.count()).select_from(early_receipts)).scalar_one()
    )


@pytest.mark.parametrize("outcome", [Sent("w1"), InDoubt(as_written("cut off"), "w1")])
@pytest.mark.parametrize("order", [["delivered"], ["read"], ["read", "delivered"], ["delivered", "delivered", "read"]])
async def test_a_receipt_before_the_answer_outlives_the_gateway(
    harness: OutboxHarness, outcome: Sent | InDoubt, order: list[str]
):
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    (claimed,) = await harness.claim()
    for status in order:
        await receive(harness, status, "w1")
    await receive(harness, "read", "somebody-elses")
    harness.outbox = open_outbox(harness.database, harness.time, harness.number_due)  # the gateway was killed here
    await harness.outbox.record(claimed, outcome)
    assert await harness.state(message_id) == ("read" if "read" in order else "delivered")
    assert await kept(harness) == 1, "only what is nobody's so far is left"


async def test_receipts_of_numbers_with_nothing_in_flight_are_not_kept(harness: OutboxHarness):
    await receive(harness, "delivered", "w1")
    assert await kept(harness) == 0
    await harness.outbox.accept([harness.draft()])
    await receive(harness, "delivered", "w1")
    assert await kept(harness) == 0
    (claimed,) = await harness.claim()
    await receive(harness, "delivered", "w1", harness.other.id)
    assert await kept(harness) == 0
    await receive(harness, "delivered", "w1")
    assert await kept(harness) == 1
    await harness.outbox.record(claimed, TryLater("later", as_written("later"), after=0))
    assert await kept(harness) == 1


async def test_what_is_nobodys_is_forgotten_after_a_day(harness: OutboxHarness):
    await harness.outbox.accept([harness.draft()])
    await harness.claim()
    for n in range(5):
        await receive(harness, "delivered", f"not-ours-{n}")
    harness.time.now += _LONGEST + 1
    await receive(harness, "delivered", "not-ours-5")
    assert await kept(harness) == 1


async def test_strangers_receipts_are_kept_in_bounds_and_the_newest_win(harness: OutboxHarness):
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    (claimed,) = await harness.claim()

    def flood(connection: Connection, first: int) -> None:
        for n in range(first, first + MOST):
            harness.time.now += 0.001
            event = StatusChanged(
                harness.number.account_id, harness.number.id, f"stranger-{n}", "read", harness.time.now
            )
            harness.outbox.receipt(connection, event, harness.time.now)

    await harness.database.write(lambda c: flood(c, 0))
    await receive(harness, "delivered", "w1")
    await harness.database.write(lambda c: flood(c, MOST - 10))  # ten of them known already
    assert LEFT <= await kept(harness) <= MOST
    harness.time.now += 0.001
    await receive(harness, "read", "w1")
    assert LEFT <= await kept(harness) <= MOST
    await harness.outbox.record(claimed, Sent("w1"))
    assert await harness.state(message_id) == "read"


@pytest.mark.parametrize("strangers", [1, 3, 400])
async def test_strangers_push_out_nothing_but_their_own(harness: OutboxHarness, strangers: int):
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    (claimed,) = await harness.claim()
    await receive(harness, "delivered", "w1", person=claimed.recipient)
    await receive(harness, "read", "w1", person=claimed.recipient)

    def flood(connection: Connection, first: int) -> None:
        for n in range(first, first + 500):
            harness.time.now += 0.001
            ids = (harness.number.account_id, harness.number.id)
            event = StatusChanged(*ids, f"made-up-{n}", "read", harness.time.now, person=f"stranger-{n % strangers}")
            harness.outbox.receipt(connection, event, harness.time.now)

    for first in range(0, 2 * MOST, 500):
        await harness.database.write(lambda c, first=first: flood(c, first))
    assert LEFT <= await kept(harness) <= MOST
    await harness.outbox.record(claimed, Sent("w1"))
    assert await harness.state(message_id) == "read"


async def test_a_flood_within_one_moment_is_bounded_too(harness: OutboxHarness):
    await harness.outbox.accept([harness.draft()])
    await harness.claim()

    def flood(connection: Connection) -> None:
        for n in range(MOST + 50):
            event = StatusChanged(harness.number.account_id, harness.number.id, f"s{n}", "delivered", 1.0)
            harness.outbox.receipt(connection, event, harness.time.now)

    await harness.database.write(flood)
    assert LEFT <= await kept(harness) <= MOST


@pytest.mark.parametrize("count", [1, 40])
async def test_a_receipt_costs_one_statement_and_the_bound_is_looked_after_once_a_transaction(
    harness: OutboxHarness, count: int
):
    await harness.outbox.accept([harness.draft()])

    async def statements() -> list[str]:
        seen: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            if "early_receipts" in statement:
                seen.append(statement.split(maxsplit=1)[0])

        def work(connection: Connection) -> None:
            for n in range(count):
                event = StatusChanged(harness.number.account_id, harness.number.id, f"w{n}", "delivered", 1.0)
                early.keep(connection, event, harness.time.now)

        sa_event.listen(harness.database.engine, "before_cursor_execute", note)
        await harness.database.write(work)
        sa_event.remove(harness.database.engine, "before_cursor_execute", note)
        return seen

    assert await statements() == ["INSERT"] * count
    await harness.claim()
    assert await statements() == ["INSERT"] * count + ["DELETE", "SELECT"]
    assert await kept(harness) == count


async def test_a_full_number_is_sorted_out_once_in_a_hundred_receipts_and_once_a_transaction(harness: OutboxHarness):
    await harness.outbox.accept([harness.draft()])
    await harness.claim()
    sorted_out = 0

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal sorted_out
        sorted_out += "row_number()" in statement

    def flood(connection: Connection, first: int, count: int) -> None:
        for n in range(first, first + count):
            event = StatusChanged(
                harness.number.account_id, harness.number.id, f"s{n}", "read", 1.0, person=f"p{n % 7}"
            )
            harness.outbox.receipt(connection, event, harness.time.now)

    await harness.database.write(lambda c: flood(c, 0, MOST))
    sa_event.listen(harness.database.engine, "before_cursor_execute", note)
    for n in range(300):
        await harness.database.write(lambda c, n=n: flood(c, MOST + n, 1))
    assert sorted_out == 3
    assert LEFT <= await kept(harness) <= MOST
    await harness.database.write(lambda c: flood(c, 10_000, 500))
    sa_event.remove(harness.database.engine, "before_cursor_execute", note)
    assert sorted_out == 4
    assert await kept(harness) == LEFT


async def test_why_a_message_failed_is_known_though_it_failed_before_the_answer(harness: OutboxHarness):
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    (claimed,) = await harness.claim()
    ids = (harness.number.account_id, harness.number.id)
    event = StatusChanged(*ids, "w1", "failed", harness.time.now, code="131026", reason="not deliverable")
    await harness.database.write(lambda c: harness.outbox.receipt(c, event, harness.time.now))
    await harness.outbox.record(claimed, Sent("w1"))
    assert await harness.state(message_id) == "failed"
    columns = (messages.c.error_code, messages.c.error_reason)
    row = await harness.database.read(lambda c: c.execute(select(*columns).where(messages.c.id == message_id)).one())
    assert tuple(row) == ("131026", "not deliverable")


@pytest.mark.parametrize("count", [1, incoming_messages.RECEIPT_IDS, incoming_messages.RECEIPT_IDS + 1, 100_000])
def test_of_one_receipt_a_bounded_number_of_ids_is_read_and_its_entry_ends(tmp_path: Path, count: int):
    rig = ReceiverRig(tmp_path)
    rig.receiver.online(connected=True)
    rig.receiver.take_receipt(receipt(*(f"m{n}" for n in range(count))))
    rig.receiver.take_receipt(receipt("after"))
    read = min(count, incoming_messages.RECEIPT_IDS)
    reported = [rig.receipt() for _ in range(read + 1)]
    assert [one.remote_id for one in reported] == [*(f"m{n}" for n in range(read)), "after"]
    assert [f"names {count - read} messages more" in what for what in rig.device.failures] == [True] * (count > read)
    rig.store(*reported)
    assert rig.kept() == 0
    rig.receiver.close()


async def test_a_receipt_of_another_account_settles_nothing(harness: OutboxHarness):
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    (claimed,) = await harness.claim()
    await receive(harness, "read", "w1", harness.other.id)
    await harness.outbox.record(claimed, Sent("w1"))
    assert await harness.state(message_id) == "sent"


def test_receipts_are_on_disk_when_the_engine_goes_on(tmp_path: Path):
    rig = ReceiverRig(tmp_path)
    for n in range(50):
        rig.receiver.take_receipt(receipt(f"3EB0{n}"))
        assert rig.kept("receipt") == n + 1
    rig.reopen()
    rig.receiver.online(connected=True)
    reported = [rig.receipt() for _ in range(50)]
    assert [one.remote_id for one in reported] == [f"3EB0{n}" for n in range(50)]
    rig.reopen()  # the gateway was killed before it had stored any
    rig.receiver.online(connected=True)
    again = [rig.receipt() for _ in range(50)]
    assert again == reported
    rig.store(*again)
    assert rig.kept() == 0
    rig.receiver.close()
