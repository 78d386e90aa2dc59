"""Somebody who guesses one-time passwords without rest, on the real tables: how many codes each guess is compared with,
and that the long simulations (`tests/hostile/test_otp_lockout.py`) follow the same rules."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.harness.otp import Target, another, new_target
from tests.otp_model import Code, Model
from tests.sqlite import new_database

from kurir.accounts import accounts
from kurir.numbers import numbers
from kurir.otp import budget
from kurir.otp.budget import Lengths
from kurir.otp.check import CheckResult
from kurir.otp.issue import Issued
from kurir.otp.tables import otp_checks
from kurir.settings import Settings
from kurir.store.database import DatabaseUnavailable

HOUR = 3600.0


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Target]:
    async with new_target(new_database(tmp_path / "kurir.db")) as target:
        yield target


@pytest.mark.parametrize("seed", range(4))
async def test_the_tables_and_the_model_of_the_simulations_agree(target: Target, seed: int) -> None:
    """The same random sends and checks, of every scope; few digits, so that all limits are met."""
    rng = random.Random(seed)
    lengths = Lengths(4, rng.choice([4, 6, 10]))
    target.settings = Settings(
        otp_digits=lengths.least, otp_digits_most=lengths.most, otp_sends_per_phone=10_000, queue_limit=10**9
    )
    model = Model(rng, lengths)
    pairs: list[tuple[Issued, Code]] = []
    answers = {True: 0, False: 0, None: 0}
    for _ in range(700):
        target.now += rng.choice([0.0, 0.1, 1.0, 30.0]) if rng.random() < 0.97 else 1200.0
        if rng.random() < 0.2 or not pairs:
            phone = f"62812{rng.randrange(6):08d}"
            issued = await target.send(phone, lifetime=600)
            pairs.append((issued, model.send(phone, target.now, 600.0, issued.code)))
            continue
        issued, code = rng.choice(pairs[-8:])
        text = issued.code if rng.random() < 0.2 else another(issued.code)
        match rng.randrange(4):
            case 0:
                result = await target.check(text, phone=code.phone)
                expected = model.check_phone(text, code.phone, target.now)
            case 1:
                result = await target.check(text, issued.request_id)
                expected = model.check_request(text, code, target.now)
            case _:
                result = await target.check(text)
                expected = model.check(text, target.now)
        assert (None if result.retry_after else result.valid) is expected
        answers[expected] += 1
    assert answers[True] > 10
    assert answers[False] > 10


async def test_the_hours_chance_is_never_exceeded_and_comes_back(target: Target) -> None:
    """Six digits at most, so that the limit is met; any hour is looked at."""
    target.settings = Settings(otp_digits=6, otp_digits_most=6)
    for minute in range(130):
        await target.send(f"62812{minute:08d}")
        for _ in range(10):
            await target.check(f"{target.rng.randrange(10**6):06d}")
        target.now += 60
    rows = await target.database.read(
        lambda c: c.execute(sa.select(otp_checks.c.minute, otp_checks.c.chance).order_by(otp_checks.c.minute)).all()
    )
    sums = [sum(chance for at, chance in rows if first <= at < first + 60) for first, _ in rows]
    assert 0.5 * budget.UNSCOPED < max(sums) <= budget.UNSCOPED
    target.now += 2 * HOUR
    issued = await target.send("6281299999999")
    assert (await target.check(issued.code)).valid


async def test_a_refused_right_code_is_not_used_up(target: Target) -> None:
    issued = (await target.open(10))[0]
    while (await target.check("000000")).retry_after is None:
        pass
    assert await target.check(issued.code) == CheckResult(False, 60)
    assert (await target.check(issued.code, issued.request_id)).valid


async def test_what_is_no_code_costs_nothing(target: Target) -> None:
    issued = await target.send("6281200000001")
    for text in ["wrong", "", "12345", "1" * 11, "١٢٣٤٥٦", "12345\n"] * 50:
        assert await target.check(text) == CheckResult(False, any_open=False)
    chance = await target.database.read(lambda c: c.scalar(sa.select(sa.func.sum(otp_checks.c.chance))))
    assert chance == 0
    assert (await target.check(issued.code)).valid


async def test_a_guesser_does_not_keep_out_people_whose_request_is_known(target: Target) -> None:
    for minute in range(120):
        for n in range(5):
            await target.check(f"{n:06d}")
        issued = await target.send(f"62813{minute:08d}", lifetime=60)
        assert (await target.check(issued.code, issued.request_id)).valid
        target.now += 60


async def test_the_first_try_with_a_request_id_counts_when_the_limit_is_spent(target: Target) -> None:
    target.settings = Settings(otp_digits=4, otp_digits_most=4)
    opened = await target.open(6)
    for issued in opened[:4]:  # 10 wrong tries are 0.1 % of four digits
        for _ in range(3):
            await target.check(another(issued.code), issued.request_id)
    assert (await target.check(opened[4].code, opened[4].request_id)).valid
    assert not (await target.check(another(opened[5].code), opened[5].request_id)).valid
    assert not (await target.check(opened[5].code, opened[5].request_id)).valid


async def test_one_accounts_guesser_does_not_touch_another_account(target: Target) -> None:
    await target.open(10)
    while (await target.check("000000")).retry_after is None:
        pass
    other = await target.database.write(lambda c: accounts.create(c, name="Lain", email="lain@example.com"))
    target.account = other
    target.number = await target.database.write(lambda c: numbers.add_linked_device(c, other.id))
    issued = await target.send("6281299999999")
    assert len(issued.code) == 6
    assert (await target.check(issued.code)).valid


async def test_when_the_database_cannot_answer_nothing_is_valid(target: Target) -> None:
    issued = (await target.open(1))[0]
    await target.database.close()
    with pytest.raises(DatabaseUnavailable):
        await target.check(issued.code)


async def test_a_check_does_the_same_work_for_a_used_an_expired_and_an_unknown_code(target: Target) -> None:
    """Equal work is why the answers take equally long, without a stop-watch that a busy machine would upset."""
    used, expired = await target.send("6281200000001"), await target.send("6281200000002", lifetime=60)
    assert (await target.check(used.code, used.request_id)).valid
    target.now += 120
    statements: list[str] = []
    sa.event.listen(target.database.engine, "before_cursor_execute", lambda *seen: statements.append(seen[2]))
    work = []
    await target.check("no code")
    for code in (another(used.code), used.code, expired.code):
        statements.clear()
        assert await target.check(code) == CheckResult(False, any_open=False)
        work.append(list(statements))
    assert work[0] == work[1] == work[2]
    assert any(statement.startswith("UPDATE otps") for statement in work[0])
