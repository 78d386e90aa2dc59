"""Receipts outlive the processes that hear of them: what arrived is known to have arrived.

On the wire and under kills: `tests/reliability/test_kills.py`, whose accountant looks for what arrived unbeknown.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import func, select
from tests.unit.linked_device.intake_rig import IntakeRig, receipt
from tests.unit.outbox.desk import Desk, open_desk, open_outbox

from kurir.foundation.tables import early_receipts
from kurir.messages.reports import InDoubt, Sent, StatusChanged, TryLater
from kurir.outbox.early import _LONGEST


@pytest.fixture
async def desk(where: Path | str) -> AsyncIterator[Desk]:
    async with open_desk(where) as desk:
        yield desk


async def receive(desk: Desk, status: str, remote_id: str, number_id: int = 0) -> None:
    event = StatusChanged(desk.number.account_id, number_id or desk.number.id, remote_id, status, desk.time.now)
    await desk.database.write(lambda c: desk.outbox.receipt(c, event, desk.time.now))


async def kept(desk: Desk) -> int:
    return await desk.database.read(lambda c: c.execute(select(func.count()).select_from(early_receipts)).scalar_one())


@pytest.mark.parametrize("outcome", [Sent("w1"), InDoubt("cut off", "w1")])
@pytest.mark.parametrize("order", [["delivered"], ["read"], ["read", "delivered"], ["delivered", "delivered", "read"]])
async def test_a_receipt_before_the_answer_outlives_the_gateway(desk: Desk, outcome: Sent | InDoubt, order: list[str]):
    (message_id,) = (await desk.outbox.accept([desk.draft()])).ids
    (claimed,) = await desk.claim()
    for status in order:
        await receive(desk, status, "w1")
    await receive(desk, "read", "somebody-elses")
    desk.outbox = open_outbox(desk.database, desk.time, desk.woken)  # the gateway was killed here
    await desk.outbox.record(claimed, outcome)
    assert await desk.state(message_id) == ("read" if "read" in order else "delivered")
    assert await kept(desk) == 1, "only what is nobody's so far is left"


async def test_receipts_of_numbers_with_nothing_in_flight_are_not_kept(desk: Desk):
    await receive(desk, "delivered", "w1")
    assert await kept(desk) == 0
    await desk.outbox.accept([desk.draft()])
    await receive(desk, "delivered", "w1")
    assert await kept(desk) == 0
    (claimed,) = await desk.claim()
    await receive(desk, "delivered", "w1", desk.other.id)
    assert await kept(desk) == 0
    await receive(desk, "delivered", "w1")
    assert await kept(desk) == 1
    await desk.outbox.record(claimed, TryLater("later", "later", after=0))
    assert await kept(desk) == 1


async def test_what_is_nobodys_is_forgotten_after_a_day(desk: Desk):
    await desk.outbox.accept([desk.draft()])
    await desk.claim()
    for n in range(5):
        await receive(desk, "delivered", f"not-ours-{n}")
    desk.time.now += _LONGEST + 1
    await receive(desk, "delivered", "not-ours-5")
    assert await kept(desk) == 1


async def test_a_receipt_of_another_account_settles_nothing(desk: Desk):
    (message_id,) = (await desk.outbox.accept([desk.draft()])).ids
    (claimed,) = await desk.claim()
    await receive(desk, "read", "w1", desk.other.id)
    await desk.outbox.record(claimed, Sent("w1"))
    assert await desk.state(message_id) == "sent"


def test_receipts_are_on_disk_when_the_engine_goes_on(tmp_path: Path):
    rig = IntakeRig(tmp_path)
    for n in range(50):
        rig.intake.take_receipt(receipt(f"3EB0{n}"))
        assert rig.kept("receipt") == n + 1
    rig.reopen()
    rig.intake.online(connected=True)
    told = [rig.receipt() for _ in range(50)]
    assert [one.remote_id for one in told] == [f"3EB0{n}" for n in range(50)]
    rig.reopen()  # the gateway was killed before it had stored any
    rig.intake.online(connected=True)
    again = [rig.receipt() for _ in range(50)]
    assert again == told
    rig.store(*again)
    assert rig.kept() == 0
    rig.intake.close()
