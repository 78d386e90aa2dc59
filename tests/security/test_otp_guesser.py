"""Somebody who guesses one-time passwords without rest: how many guesses are looked at, and whom that locks out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.sqlite import new_database

from kurir import numbers
from kurir.accounts import accounts
from kurir.accounts.accounts import Account
from kurir.foundation.database import Database, DatabaseUnavailable
from kurir.foundation.sealing import Sealing
from kurir.foundation.telemetry import Metrics
from kurir.otp import rules
from kurir.otp.check import Attempt, Verdict, check
from kurir.otp.issue import Issued, issue
from kurir.outbox.outbox import Outbox
from kurir.settings import Settings

HOUR = 3600.0


@dataclass
class Target:
    """An account under attack, with a clock that the test drives."""

    database: Database
    sealing: Sealing
    outbox: Outbox
    account: Account
    number: numbers.Number
    now: float = 1_750_000_000.0

    async def send(self, phone: str, lifetime: int = 3600) -> Issued:
        request = rules.OtpRequest(account=self.account, number_id=self.number.id, phone=phone, lifetime=lifetime)
        return await issue(self.outbox, self.sealing, Settings(), request, self.now)

    async def open(self, count: int) -> list[Issued]:
        opened: list[Issued] = []
        for first in range(0, count, 50):  # not all at once: the last would wait longer than any caller does
            phones = [f"62812{n:08d}" for n in range(first, min(first + 50, count))]
            opened += await asyncio.gather(*map(self.send, phones))
        return opened

    async def guess(self, code: str, request_id: str = "") -> Verdict:
        attempt = Attempt(account_id=self.account.id, code=code, request_id=request_id)
        return await check(self.database, self.sealing, attempt, self.now)


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Target]:
    database = Database(new_database(tmp_path / "kurir.db"))
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


@pytest.mark.parametrize(("open_codes", "budget"), [(1, 100), (200, 50), (600, 20)])
async def test_a_guesser_gets_no_more_than_the_budget_looked_at_in_any_hour(
    target: Target, open_codes: int, budget: int
) -> None:
    dice = random.Random(open_codes)
    looked_at: list[float] = []
    hits = 0
    for minute in range(150):
        if minute % 60 == 0:
            await target.open(open_codes)
        guesses = [f"{dice.randrange(10**6):06d}" for _ in range(12)]
        for verdict in await asyncio.gather(*map(target.guess, guesses)):
            looked_at += [target.now] if verdict.retry_after is None else []
            hits += verdict.valid
        target.now += 60
    # one more look is granted after each pause of a quarter of an hour
    most = max(sum(1 for at in looked_at if start <= at < start + HOUR) for start in looked_at)
    assert budget <= most <= budget + HOUR / rules.PAUSE
    assert most * open_codes / 10**6 <= 0.015
    assert hits <= 3


async def test_after_the_budget_even_the_right_code_is_refused_unseen_and_is_not_used_up(target: Target) -> None:
    issued = (await target.open(1))[0]
    for _ in range(100):
        assert await target.guess("wrong") == Verdict(False)
    assert await target.guess(issued.code) == Verdict(False, int(HOUR))
    assert (await target.guess(issued.code, issued.request_id)).valid


async def test_a_pause_ends_by_itself_and_a_right_code_is_taken_again(target: Target) -> None:
    issued = (await target.open(600))[0]
    for _ in range(20):
        assert (await target.guess("wrong")).retry_after is None
    assert await target.guess(issued.code) == Verdict(False, 900)
    target.now += 899.5
    assert await target.guess(issued.code) == Verdict(False, 1)
    target.now += 0.5
    assert (await target.guess(issued.code)).valid


async def test_a_hundred_failures_in_a_row_stop_checks_for_an_hour_and_are_then_forgiven(target: Target) -> None:
    for _ in range(5):
        await target.open(600)
        for _ in range(20):
            assert (await target.guess("wrong")).retry_after is None
        target.now += HOUR + 1
    # the fifth round was the hundredth failure; its pause is long over, the stop just as well
    issued = (await target.open(1))[0]
    target.now -= 2
    assert await target.guess(issued.code) == Verdict(False, 1)
    target.now += 2
    assert (await target.guess("wrong")).retry_after is None
    assert (await target.guess(issued.code)).valid


async def test_a_right_code_with_its_request_id_ends_the_stop(target: Target) -> None:
    for _ in range(4):
        await target.open(600)
        for _ in range(20):
            await target.guess("wrong")
        target.now += HOUR + 1
    codes = await target.open(600)
    for _ in range(20):
        await target.guess("wrong")
    target.now += rules.PAUSE
    assert (await target.guess(codes[0].code)).retry_after == HOUR - rules.PAUSE
    assert (await target.guess(codes[1].code, codes[1].request_id)).valid
    assert (await target.guess(codes[0].code)).valid


async def test_a_guesser_does_not_keep_out_people_whose_request_is_known(target: Target) -> None:
    for minute in range(120):
        await asyncio.gather(*(target.guess("wrong") for _ in range(5)))
        issued = await target.send(f"62813{minute:08d}", lifetime=60)
        assert (await target.guess(issued.code, issued.request_id)).valid
        target.now += 60


async def test_one_accounts_guesser_does_not_touch_another_account(target: Target) -> None:
    for _ in range(120):
        await target.guess("wrong")
    other = await target.database.write(lambda c: accounts.create(c, name="Lain", email="lain@example.com"))
    target.account = other
    target.number = await target.database.write(lambda c: numbers.add_linked_device(c, other.id))
    issued = await target.send("6281299999999")
    assert (await target.guess(issued.code)).valid


async def test_when_the_database_cannot_answer_nothing_is_valid(target: Target) -> None:
    issued = (await target.open(1))[0]
    await target.database.close()
    with pytest.raises(DatabaseUnavailable):
        await target.guess(issued.code)


async def test_a_check_does_the_same_work_for_a_used_an_expired_and_an_unknown_code(target: Target) -> None:
    """Equal work is why the answers take equally long, without a stop-watch that a busy machine would upset."""
    used, expired = await target.send("6281200000001"), await target.send("6281200000002", lifetime=60)
    assert (await target.guess(used.code, used.request_id)).valid
    target.now += 120
    statements: list[str] = []
    sa.event.listen(target.database.engine, "before_cursor_execute", lambda *seen: statements.append(seen[2]))
    work = []
    await target.guess("no code")
    for code in ("no code", used.code, expired.code):
        statements.clear()
        assert await target.guess(code) == Verdict(False)
        work.append(list(statements))
    assert work[0] == work[1] == work[2]
    assert any(statement.startswith("UPDATE otps") for statement in work[0])
