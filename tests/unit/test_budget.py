"""What one message may cost: transactions, statements and reads on each path, counted by the driver.

Counts are exact where times are not: whoever adds a read to a hot path sees it here. The bounds are what the paths take
today, for one message at a time, when nothing is shared; lower them when a path gets shorter, raise them only with a
reason. Under load a transaction serves many messages (`kurir bench`).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.harness.gateway import PHONE, Harness, open_harness
from tests.harness.webhooks import LOOPBACK, receiving

from kurir.kit.url_rules import Allowed
from kurir.messages.channel_reports import Received
from kurir.outbox.tables import messages
from kurir.store.database import Database
from kurir.store.statement_counts import Counted, StatementCounts, counting
from kurir.webhooks import endpoints
from kurir.webhooks.tables import webhook_deliveries

MESSAGES = 5
QUIET = 0.15
"""Seconds without a statement after which a message's work is over: its lane's last turn comes by itself."""


@dataclass
class Budget:
    """A gateway whose statements are counted."""

    harness: Harness
    counts: StatementCounts

    async def quiet(self) -> Counted:
        """Waits until nothing has been asked for a while."""
        seen, since = self.counts.now(), time.monotonic()
        async with asyncio.timeout(20):
            while time.monotonic() - since < QUIET:
                await asyncio.sleep(QUIET / 10)
                if (now := self.counts.now()) != seen:
                    seen, since = now, time.monotonic()
        return seen

    async def per_message(self, work: Callable[[int], Awaitable[None]]) -> Counted:
        """The least that one of several messages takes, so that nothing periodic in between counts."""
        await work(0)  # what is remembered afterwards is looked up
        taken: list[Counted] = []
        before = await self.quiet()
        for i in range(1, MESSAGES + 1):
            await work(i)
            after = await self.quiet()
            taken.append(after.since(before))
            before = after
        return Counted(**{name: min(getattr(one, name) for one in taken) for name in Counted.__dataclass_fields__})

    async def rows_in(self, table: sa.Table, **state: Any) -> int:
        """How many rows a table has, in that state; on a connection that is not counted."""
        where = " AND ".join(f"{name} = '{value}'" for name, value in state.items()) or "1"
        file = self.harness.gateway.settings.sqlite_path
        with closing(sqlite3.connect(file)) as connection:
            return connection.execute(f"SELECT count(*) FROM {table.name} WHERE {where}").fetchone()[0]

    async def until(self, count: int, table: sa.Table, **state: Any) -> None:
        """Waits until so many rows are in that state."""
        async with asyncio.timeout(10):
            while await self.rows_in(table, **state) < count:
                await asyncio.sleep(0.005)

    async def callback(self, value: dict[str, Any]) -> None:
        """Meta sends a callback about our official number."""
        number = self.harness.ours.official
        metadata = {"display_phone_number": number.phone, "phone_number_id": number.phone_number_id}
        change = {"field": "messages", "value": {"messaging_product": "whatsapp", "metadata": metadata, **value}}
        body = json.dumps({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [change]}]}).encode()
        signature = "sha256=" + hmac.new(b"secret of the test", body, hashlib.sha256).hexdigest()
        headers = {"X-Hub-Signature-256": signature, "Content-Type": "application/json"}
        reply = await self.harness.client.post("/meta/callbacks", content=body, headers=headers)
        assert reply.status_code == 200, reply.text


@pytest.fixture
async def budget(tmp_path: Path) -> AsyncIterator[Budget]:
    with counting() as counts:
        async with open_harness(tmp_path, allowed_networks=(LOOPBACK,)) as harness:
            yield Budget(harness, counts)


async def test_a_linked_send_until_it_is_accepted(budget: Budget) -> None:
    budget.harness.devices.connected = False

    async def send(i: int) -> None:
        reply = await budget.harness.send("send_personal_message", phone_no=f"62812000{i:05d}", message="Hello")
        assert reply.status_code == 200, reply.text

    within(await budget.per_message(send), Counted(transactions=1, statements=2, control=4, reads=1))
    assert await budget.rows_in(messages, state="queued") == MESSAGES + 1


async def test_a_linked_send_until_it_is_recorded(budget: Budget) -> None:
    async def send(i: int) -> None:
        reply = await budget.harness.send("send_personal_message", phone_no=f"62812000{i:05d}", message="Hello")
        assert reply.status_code == 200, reply.text
        await budget.until(i + 1, messages, state="sent")

    within(await budget.per_message(send), Counted(transactions=3, statements=11, control=10, reads=2))


async def test_an_official_send_until_it_is_recorded(budget: Budget) -> None:
    await open_window(budget)

    async def send(i: int) -> None:
        reply = await budget.harness.send("send_meta_personal_message", reciptient=PHONE, message=f"Hello {i}")
        assert reply.status_code == 200, reply.text
        await budget.until(i + 1, messages, state="sent")

    within(await budget.per_message(send), Counted(transactions=3, statements=11, control=10, reads=2))


async def test_a_status_callback(budget: Budget) -> None:
    await open_window(budget)
    for i in range(MESSAGES + 1):
        await budget.harness.send("send_meta_personal_message", reciptient=PHONE, message=f"Hello {i}")
        await budget.until(i + 1, messages, state="sent")
    remote_ids = [f"remote-{outgoing.message_id}" for outgoing in budget.harness.cloud.sent]

    async def delivered(i: int) -> None:
        at = str(int(time.time()))
        status = {"id": remote_ids[i], "status": "delivered", "timestamp": at, "recipient_id": PHONE}
        await budget.callback({"statuses": [status]})
        await budget.until(i + 1, messages, state="delivered")

    within(await budget.per_message(delivered), Counted(transactions=1, statements=8, control=8, reads=3))


async def test_an_incoming_message(budget: Budget) -> None:
    within(
        await budget.per_message(lambda i: writes(budget, i)),
        Counted(transactions=1, statements=8, control=8, reads=3),
    )


async def test_a_webhook_delivery(budget: Budget) -> None:
    """With the incoming message that it is about: what a delivery takes is the difference."""
    async with receiving() as receiver:
        allowed, account = Allowed.parse([LOOPBACK]), budget.harness.ours.account.id
        sealing = budget.harness.gateway.sealing
        await budget.harness.gateway.database.write(
            lambda c: endpoints.add(c, sealing, account, receiver.url(), allowed=allowed, now=time.time())
        )

        async def message(i: int) -> None:
            await writes(budget, i)
            await receiver.until(i + 1)
            await budget.until(i + 1, webhook_deliveries, state="delivered")

        within(await budget.per_message(message), Counted(transactions=7, statements=27, control=24, reads=5))


def test_the_counts_see_every_kind_of_statement(tmp_path: Path) -> None:
    with counting() as counts:
        database = Database(tmp_path / "kurir.db")
        with database.transaction() as connection:
            connection.exec_driver_sql("CREATE TABLE t (x)")
            connection.exec_driver_sql("SAVEPOINT a")
            connection.exec_driver_sql("INSERT INTO t VALUES (1)")
            connection.exec_driver_sql("RELEASE a")
        assert counts.now() == Counted(transactions=1, statements=2, control=4, reads=0, on_loop=2)
        database.engine.dispose()


async def test_a_read_counts_with_and_without_a_transaction(budget: Budget) -> None:
    before = await budget.quiet()
    await budget.harness.gateway.database.read(lambda c: c.exec_driver_sql("SELECT 1").scalar())
    assert (await budget.quiet()).since(before) == Counted(statements=1, control=2, reads=1)


_writes = itertools.count(1)


async def writes(budget: Budget, i: int) -> None:
    """A person writes to our official number."""
    remote_id, at = f"wamid.{next(_writes)}", str(int(time.time()))
    person = f"62813000{i:05d}"
    message = {"from": person, "id": remote_id, "timestamp": at, "type": "text", "text": {"body": "Hello"}}
    await budget.callback({"contacts": [{"profile": {"name": "Sari"}, "wa_id": person}], "messages": [message]})


async def open_window(budget: Budget) -> None:
    ours = budget.harness.ours
    came_in = Received(ours.account.id, ours.official.id, "wamid.in", PHONE, PHONE, "Sari", time.time(), "text", "Hi")
    await budget.harness.gateway.inbox.take([(came_in, "in")])


def within(taken: Counted, bound: Counted) -> None:
    over = {
        name: f"{getattr(taken, name)}, at most {getattr(bound, name)}"
        for name in Counted.__dataclass_fields__
        if getattr(taken, name) > getattr(bound, name)
    }
    assert not over, f"{over} in {taken}"
