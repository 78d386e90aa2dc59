"""Who may deliver how much at once: endpoints that fail, endpoints of one account, and results that come too late."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web
from tests.harness.webhooks import Receiver, WebhookHarness, delivering, eventually, open_webhook_harness, receiving
from tests.sqlite import new_database

from kurir.store.database import DatabaseUnavailable
from kurir.webhooks import deliveries
from kurir.webhooks.deliver import Deliverer
from kurir.webhooks.retry_schedule import FAILING
from kurir.webhooks.tables import webhook_attempts


class Failing:
    """A receiver that answers 500 so many times, then leaves its callers hanging; counts who hangs."""

    def __init__(self, receiver: Receiver, failures: int) -> None:
        self._receiver = receiver
        self._left = failures
        self.hanging = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if self._left > 0:
            self._left -= 1
            return web.Response(status=500)
        self.hanging += 1
        return await self._receiver.hang(request)


async def rounds(harness: WebhookHarness, receiver: Receiver, deliverer: Deliverer, path: str, count: int = 6) -> None:
    """Waits until the deliverer has gone round so many times: each time it delivers one event to a good endpoint."""
    number = await harness.tenant()
    await harness.endpoint(receiver.url(path), account_id=number.account_id)
    for n in range(count):
        await harness.comes_in(chat=f"round-{n}", number=number)
        deliverer.wake()
        await receiver.until(n + 1, path, timeout=10)


async def test_a_failing_endpoint_has_one_try_at_once(harness: WebhookHarness) -> None:
    async with receiving() as receiver, delivering(harness.database, harness.time) as deliverer:
        failing = Failing(receiver, FAILING)
        receiver.replies["/bad"] = failing
        endpoint, _ = await harness.endpoint(receiver.url("/bad"))
        for n in range(FAILING):
            await harness.comes_in(chat=f"chat-{n}")
        deliverer.wake()
        await eventually(lambda: _kept(harness), FAILING)
        for n in range(20):
            await harness.comes_in(chat=f"more-{n}")
        deliverer.wake()
        await receiver.until(FAILING + 1, "/bad")
        await rounds(harness, receiver, deliverer, "/good")
        assert failing.hanging == 1
        assert (await harness.states(endpoint))["sending"] == 1


async def test_failing_endpoints_take_no_place_of_those_that_work(harness: WebhookHarness) -> None:
    async with (
        receiving() as receiver,
        delivering(harness.database, harness.time, connections=6, failing_connections=2) as deliverer,
    ):
        bad = [Failing(receiver, FAILING) for _ in range(8)]
        for n, failing in enumerate(bad):
            receiver.replies[f"/bad-{n}"] = failing
            number = await harness.tenant()
            await harness.endpoint(receiver.url(f"/bad-{n}"), account_id=number.account_id)
            for chat in range(FAILING):
                await harness.comes_in(chat=f"chat-{chat}", number=number)
            deliverer.wake()
            await receiver.until(FAILING, f"/bad-{n}")
            await eventually(lambda: _kept(harness), (n + 1) * FAILING)
            # one that still looks for work began before the endpoint counted as failing
            await eventually(lambda: _common_pool_is_idle(deliverer))
            await harness.comes_in(chat="one more", number=number)
        await eventually(lambda: _hanging(bad), 2)
        await rounds(harness, receiver, deliverer, "/good")
        assert await _hanging(bad) == 2


async def test_slow_receivers_of_one_account_leave_places_for_others(harness: WebhookHarness) -> None:
    async with receiving() as receiver, delivering(harness.database, harness.time, connections=8) as deliverer:
        slow = Failing(receiver, 0)
        receiver.replies["/slow"] = slow
        number = await harness.tenant()
        for _ in range(6):
            await harness.endpoint(receiver.url("/slow"), account_id=number.account_id)
        for n in range(6):
            await harness.comes_in(chat=f"chat-{n}", number=number)
        deliverer.wake()
        await receiver.until(4, "/slow")
        await rounds(harness, receiver, deliverer, "/good")
        assert slow.hanging == 4  # half of the places, although 36 deliveries are due


async def test_a_result_that_comes_after_its_lease_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "LEASE", 1.0)
    path = new_database(tmp_path / "kurir.db")
    async with open_webhook_harness(path) as harness, receiving() as receiver:
        failed, write = asyncio.Event(), harness.database.write

        async def watched(*arguments: Any, **options: Any) -> Any:
            try:
                return await write(*arguments, **options)
            except DatabaseUnavailable:
                failed.set()
                raise

        monkeypatch.setattr(harness.database, "write", watched)
        arrived, may_answer = asyncio.Event(), asyncio.Event()

        async def answer(_request: web.Request) -> web.StreamResponse:
            arrived.set()
            await may_answer.wait()
            return web.Response()

        receiver.replies["/hook"] = answer
        await harness.endpoint(receiver.url())
        await harness.comes_in()
        async with delivering(harness.database, harness.time):
            await arrived.wait()
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")  # another program holds the database past the lease
                may_answer.set()
                await failed.wait()
                other.execute("ROLLBACK")
            harness.time.now += 2  # whoever claims it now is its owner
            await receiver.until(2)
            await eventually(harness.states, {"delivered": 1})
            assert await _attempts(harness) == [2]


async def _common_pool_is_idle(deliverer: Deliverer) -> bool:
    return deliverer._slots.idle


async def _hanging(bad: list[Failing]) -> int:
    return sum(failing.hanging for failing in bad)


async def _kept(harness: WebhookHarness) -> int:
    return len(await _attempts(harness))


async def _attempts(harness: WebhookHarness) -> list[int]:
    return await harness.database.read(lambda c: list(c.execute(sa.select(webhook_attempts.c.number)).scalars()))
