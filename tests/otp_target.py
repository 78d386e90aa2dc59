"""An account that sends one-time passwords on a real database, with a clock that the test drives."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kurir import numbers
from kurir.accounts import accounts
from kurir.accounts.accounts import Account
from kurir.foundation.data_folder import renew_schema
from kurir.foundation.database import Database
from kurir.foundation.sealing import Sealing
from kurir.foundation.telemetry import Metrics
from kurir.otp import rules
from kurir.otp.check import Attempt, Verdict, check
from kurir.otp.issue import Issued, issue
from kurir.outbox.outbox import Outbox
from kurir.settings import Settings


@dataclass
class Target:
    """An account under attack."""

    database: Database
    sealing: Sealing
    outbox: Outbox
    account: Account
    number: numbers.Number
    settings: Settings = field(default_factory=Settings)
    now: float = 1_750_000_020.0
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    async def send(self, phone: str, lifetime: int = 3600) -> Issued:
        """A code to that phone number."""
        request = rules.OtpRequest(account=self.account, number_id=self.number.id, phone=phone, lifetime=lifetime)
        return await issue(self.outbox, self.sealing, self.settings, request, self.now)

    async def open(self, count: int, first: int = 0) -> list[Issued]:
        """Codes to so many phone numbers, in order."""
        return [await self.send(f"62812{n:08d}") for n in range(first, first + count)]

    async def guess(self, code: str, request_id: str = "", phone: str = "") -> Verdict:
        """One check."""
        attempt = Attempt(account_id=self.account.id, code=code, request_id=request_id, phone=phone)
        lengths = self.settings.otp_digits, self.settings.otp_digits_most
        return await check(self.database, self.sealing, attempt, self.now, lengths[0], digits_most=lengths[1])


@asynccontextmanager
async def new_target(where: Path | str) -> AsyncIterator[Target]:
    """A target on a database that is empty."""
    database = Database(where)
    renew_schema(database)
    await database.start()
    account = await database.write(lambda c: accounts.create(c, name="Toko", email="toko@example.com"))
    number = await database.write(lambda c: numbers.add_linked_device(c, account.id))
    sealing = Sealing(bytes(32))
    outbox = Outbox(
        database,
        sealing,
        lambda: target.now,
        lifetime=86_400,
        max_attempts=8,
        queue_limit=100_000,
        metrics=Metrics(),
        woken=lambda _account, _number: None,
    )
    target = Target(database, sealing, outbox, account, number)
    yield target
    await database.close()


def another(code: str) -> str:
    """A wrong code of the same length."""
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}d}"
