"""An account that sends and checks one-time passwords on a real database, with a clock that the test drives."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import sqlalchemy as sa

from kurir.accounts import accounts
from kurir.accounts.accounts import Account
from kurir.data_folder import renew_schema
from kurir.kit.metrics import Metrics
from kurir.kit.sealing import Sealing
from kurir.numbers import numbers
from kurir.otp import rules
from kurir.otp.check import Attempt, CheckResult
from kurir.otp.issue import Issued
from kurir.outbox.outbox import Outbox
from kurir.services.otps import Otps
from kurir.settings import Settings
from kurir.store.database import Database
from kurir.web.compat_v1.body import Body
from kurir.web.compat_v1.endpoint import Call
from kurir.web.compat_v1.envelopes import Answer

PHONE = "6281234567890"


@dataclass
class Target:
    """An account with a linked device, as one gateway sees it; `lifetime` of its codes in seconds."""

    database: Database
    sealing: Sealing
    outbox: Outbox
    account: Account
    number: numbers.Number
    settings: Settings = field(default_factory=Settings)
    now: float = 1_750_000_020.0
    lifetime: int = 3600
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    metrics: Metrics = field(default_factory=Metrics)

    async def send(self, phone: str = PHONE, lifetime: int = 0) -> Issued:
        """A code to that phone number."""
        request = rules.OtpRequest(
            account=self.account, number_id=self.number.id, phone=phone, lifetime=lifetime or self.lifetime
        )
        return await self.otps.send(request)

    async def open(self, count: int, first: int = 0) -> list[Issued]:
        """Codes to so many phone numbers, in order."""
        return [await self.send(f"62812{n:08d}") for n in range(first, first + count)]

    async def check(self, code: str, request_id: str = "", phone: str = "", account_id: int = 0) -> CheckResult:
        """One check."""
        attempt = Attempt(account_id=account_id or self.account.id, code=code, request_id=request_id, phone=phone)
        return await self.otps.check(attempt)

    async def post(self, handler: Any, **fields: Any) -> Answer:
        """What an endpoint answers to a body with these fields."""
        call = Call(account=self.account, body=Body(fields), now=self.now, _number=self.number)
        services = SimpleNamespace(otps=self.otps)
        return await handler(cast("Any", SimpleNamespace(services=services)), call)

    @property
    def otps(self) -> Otps:
        """The service, by the clock that the test drives."""
        return Otps(
            self.database,
            self.sealing,
            self.outbox,
            settings=self.settings,
            metrics=self.metrics,
            clock=lambda: self.now,
        )

    async def count(self, table: sa.Table) -> int:
        """Rows of a table."""
        found = await self.database.read(lambda c: c.scalar(sa.select(sa.func.count()).select_from(table)))
        assert found is not None
        return found


@asynccontextmanager
async def new_target(where: Path | str) -> AsyncIterator[Target]:
    """A target on a database that is empty."""
    database = Database(where)
    renew_schema(database)
    await database.start()
    account = await database.write(lambda c: accounts.create(c, name="Toko", email="toko@example.com"))
    number = await database.write(lambda c: numbers.add_linked_device(c, account.id))
    target = _target(database, account, number)
    yield target
    await target.database.close()


@asynccontextmanager
async def another_gateway(first: Target) -> AsyncIterator[Target]:
    """The same account at a second gateway on the same database."""
    database = Database(first.database.where)
    await database.start()
    target = _target(database, first.account, first.number)
    target.settings, target.now = first.settings, first.now
    yield target
    await database.close()


def _target(database: Database, account: Account, number: numbers.Number) -> Target:
    sealing = Sealing(bytes(32))
    metrics = Metrics()
    outbox = Outbox(
        database,
        sealing,
        lambda: target.now,
        lifetime=86_400,
        max_attempts=8,
        queue_limit=100_000,
        metrics=metrics,
        number_due=lambda _account, _number: None,
    )
    target = Target(database, sealing, outbox, account, number, metrics=metrics)
    return target


def another(code: str) -> str:
    """A wrong code of the same length."""
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}d}"
