"""A channel's events on their way into the database."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import func, select
from tests.gateway_fixture import PHONE, Front, open_front

from kurir.foundation.database import DatabaseUnavailable
from kurir.foundation.tables import incoming
from kurir.messages.reports import Received


def received(front: Front, remote_id: str) -> Received:
    number = front.ours.device
    return Received(number.account_id, number.id, remote_id, PHONE, PHONE, "Sari", 1.0, "text", "halo")


async def test_a_channel_may_let_go_of_what_is_committed_and_of_nothing_else(tmp_path: Path, monkeypatch):
    async with open_front(tmp_path) as front:
        inbox, tries = front.gateway.inbox, asyncio.Semaphore(0)
        take, down = inbox.take, True

        async def taken(*arguments) -> int:
            tries.release()
            if down:
                raise DatabaseUnavailable("the database is away")
            return await take(*arguments)

        monkeypatch.setattr(inbox, "take", taken)
        following = asyncio.create_task(inbox.follow(front.devices))
        event = received(front, "3EB0")
        front.devices.hear(event)
        async with asyncio.timeout(10):
            await tries.acquire()
            await tries.acquire()
            assert front.devices.let_go == []
            down = False
            while not front.devices.let_go:
                await asyncio.sleep(0.01)
        assert front.devices.let_go == [event]
        count = select(func.count()).select_from(incoming).where(incoming.c.remote_id == "3EB0")
        assert await front.gateway.database.read(lambda c: c.execute(count).scalar_one()) == 1
        following.cancel()
