"""A real database with one account and two numbers, and an outbox on a clock that tests drive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kurir.accounts import accounts
from kurir.data_folder import renew_schema
from kurir.kit.metrics import Metrics
from kurir.kit.sealing import Sealing
from kurir.messages.content import Text
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.outbox.message_rows import Claimed, Draft
from kurir.outbox.outbox import Outbox
from kurir.store.database import Database


@dataclass
class Time:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class OutboxHarness:
    """An outbox with what a test needs around it."""

    database: Database
    outbox: Outbox
    time: Time
    number: Number
    other: Number
    number_due: list[tuple[int, int]] = field(default_factory=list)

    def draft(self, recipient: str = "628111", body: str = "halo", **changes) -> Draft:
        return Draft(
            account_id=self.number.account_id,
            number_id=changes.pop("number_id", self.number.id),
            recipient=recipient,
            content=Text(body),
            **changes,
        )

    async def claim(self, limit: int = 10, number: Number | None = None) -> list[Claimed]:
        number = number or self.number
        return (await self.outbox.claim(number.account_id, number.id, limit)).messages

    async def state(self, message_id: int) -> str:
        found = await self.outbox.snapshot(self.number.account_id, message_id)
        assert found is not None
        return found.state


def open_outbox(database: Database, time: Time, number_due: list[tuple[int, int]], **changes) -> Outbox:
    options = {"lifetime": 3600.0, "max_attempts": 3, "queue_limit": 1000, "metrics": Metrics(), **changes}
    return Outbox(database, Sealing(bytes(32)), time, number_due=lambda *number: number_due.append(number), **options)


@asynccontextmanager
async def open_outbox_harness(where: Path | str) -> AsyncIterator[OutboxHarness]:
    """An outbox on a database of its own: a SQLite file or the address of an empty PostgreSQL database."""
    database = Database(where)
    renew_schema(database)
    with database.transaction() as connection:
        account = accounts.create(connection, name="a", email="a@example.com")
        first = numbers.add_linked_device(connection, account.id)
        second = numbers.add_linked_device(connection, account.id)
    await database.start()
    time, number_due = Time(), []
    yield OutboxHarness(database, open_outbox(database, time, number_due), time, first, second, number_due)
    await database.close()
