"""Nobody is locked out of a shop by strangers who guess one-time passwords, and no guesser gets far.

Simulations on a virtual clock with the rules that the gateway uses (`tests/otp_model.py`; that the tables follow the
same rules is shown in `tests/security/test_otp_guesser.py`), then the kinds of attack on the real tables.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.harness.otp import Target, another, new_target
from tests.otp_model import HOUR, Model, Shop, guess_at_somebody, guess_code, play

from kurir.events.tables import events
from kurir.kit.url_rules import Allowed
from kurir.otp import budget, ledger
from kurir.otp.budget import Lengths
from kurir.otp.check import CheckResult
from kurir.otp.tables import otp_checks, otps
from kurir.settings import Settings
from kurir.webhooks import endpoints

SEEDS = range(1, 1 + int(os.environ.get("KURIR_OTP_SEEDS", "1")))
FULL_RATE = 60_000.0 - 3_400
"""Checks per hour that the request limit of 1,000 a minute leaves to a guesser beside the shop's own."""


@pytest.fixture
async def target(where: Path | str) -> AsyncIterator[Target]:
    async with new_target(where) as target:
        yield target


# -- simulations -----------------------------------------------------------------------------------------------------


def test_a_shop_with_500_open_codes_has_every_right_code_accepted_without_a_guesser() -> None:
    played = play(Shop(), 2)
    assert played.most_open > 400
    assert played.right > 3_000
    assert played.share == 1.0
    assert max(played.lengths) <= 9


@pytest.mark.parametrize("seed", SEEDS)
def test_a_shop_with_500_open_codes_under_a_guesser_at_full_rate(seed: int) -> None:
    played = play(Shop(guesses_per_hour=FULL_RATE, attack_from=1.5 * HOUR, seed=seed), 2.5)
    assert played.most_open > 450
    assert played.guesses > 50_000
    assert played.share >= 0.999, played.refused
    assert played.chance.most() <= 0.01


@pytest.mark.parametrize(
    ("right_per_hour", "lifetime"), [(60, 300.0), (60, 3600.0), (400, 600.0)], ids=["small", "slow", "medium"]
)
def test_smaller_shops_keep_their_codes_too(right_per_hour: float, lifetime: float) -> None:
    shop = Shop(right_per_hour=right_per_hour, lifetime=lifetime, guesses_per_hour=FULL_RATE)
    played = play(shop, 2.5)
    assert played.right > right_per_hour
    assert len(played.refused) <= 1 + played.right // 1000, played.refused
    assert played.chance.most() <= 0.01


def test_a_small_shop_keeps_its_six_digits() -> None:
    played = play(Shop(right_per_hour=60, lifetime=300.0), 4)
    assert set(played.lengths) == {6}
    assert played.share == 1.0


def test_with_the_request_id_every_right_code_is_accepted_and_stays_short() -> None:
    shop = Shop(scope="request", typing_errors=0.0, guesses_per_hour=FULL_RATE, right_per_hour=800)
    played = play(shop, 2)
    assert played.share == 1.0
    assert played.chance.most() <= 0.01
    quiet = play(Shop(scope="request", right_per_hour=800), 2)
    assert quiet.share == 1.0
    assert set(quiet.lengths) == {6}


@pytest.mark.parametrize("lengths", [Lengths(6, 6), Lengths(6, 8), Lengths(4, 10)], ids=str)
@pytest.mark.parametrize("guess", [guess_code, guess_at_somebody])
def test_no_mix_of_attacks_gets_more_than_one_percent_an_hour(
    lengths: Lengths, guess: Callable[[Model, float], None]
) -> None:
    """Also where codes may not grow as they should, and with pauses in between."""
    for burst in (0.0, 400.0):
        shop = Shop(
            right_per_hour=300,
            lifetime=600.0,
            lengths=lengths,
            guesses_per_hour=FULL_RATE,
            guess=guess,
            attack_from=HOUR / 4,
            attack_burst=burst,
        )
        played = play(shop, 1.4)
        assert played.guesses > 10_000
        assert 0 < played.chance.most() <= 0.01


def test_without_limits_the_same_guesser_would_hit() -> None:
    """The simulation can fail: six digits, everything compared."""
    rng = random.Random(1)
    open_codes = {f"{rng.randrange(10**6):06d}" for _ in range(500)}
    assert sum(f"{rng.randrange(10**6):06d}" in open_codes for _ in range(int(FULL_RATE))) >= 10


# -- the real tables -------------------------------------------------------------------------------------------------


async def test_five_hundred_wrong_codes_do_not_refuse_an_honest_one(target: Target) -> None:
    waiting = await target.open(3)
    for _ in range(10):
        await asyncio.gather(*(target.check(f"{n:06d}") for n in range(50)))
    fresh = await target.send("6281277777777")
    assert (await target.check(fresh.code)).valid
    assert (await target.check(waiting[0].code, waiting[0].request_id)).valid


async def test_whoever_asks_again_under_attack_gets_a_longer_code_that_works(target: Target) -> None:
    await target.open(30)
    for _ in range(100):
        refused = (await target.check(f"{target.rng.randrange(10**6):06d}")).retry_after
    assert refused
    again = await target.send("6281277777777")
    assert len(again.code) > 7
    await asyncio.gather(*(target.check(f"{n:06d}") for n in range(100)))
    await asyncio.gather(*(target.check(f"{n:0{len(again.code)}d}") for n in range(100)))
    assert (await target.check(again.code)).valid


async def test_the_youngest_codes_are_compared_when_the_room_gets_small(target: Target) -> None:
    old = await target.open(10)
    guesses = 0
    while (await target.check(another(old[-1].code))).retry_after is None:
        guesses += 1
    assert guesses * 10 / 10**6 <= budget.SHARED
    assert await target.check(old[0].code) == CheckResult(False, 60)
    assert (await target.check(old[-1].code)).valid
    target.now += HOUR + 120
    late = await target.send("6281277777777")
    assert (await target.check(late.code)).valid


async def test_a_code_that_another_gateway_uses_while_the_youngest_are_sought_costs_no_error(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL shows each statement what was committed before it: fewer codes may be open than were counted."""
    old = await target.open(10)
    while (await target.check(another(old[-1].code))).retry_after is None:
        pass
    monkeypatch.setattr(budget, "compared", lambda *_: len(old) - 1)
    of_hour = ledger.of_hour

    def and_meanwhile(connection: sa.Connection, account_id: int, now: float) -> ledger.Page:
        page = of_hour(connection, account_id, now)
        one = otps.update().where(otps.c.id == sa.select(sa.func.min(otps.c.id)).scalar_subquery())
        connection.execute(one.values(used_at=now))
        return page

    monkeypatch.setattr(ledger, "of_hour", and_meanwhile)
    assert (await target.check(old[1].code)).valid


async def test_whoever_knows_a_phone_number_does_not_lock_its_owner_out(target: Target) -> None:
    phone = "6281277777777"
    lengths = []
    for _ in range(4):
        issued = await target.send(phone)
        lengths.append(len(issued.code))
        await asyncio.gather(*(target.check(another(issued.code), phone=phone) for _ in range(60)))
        result = await target.check(issued.code, phone=phone)
        if result.valid:
            break
        target.now += 5
    else:
        pytest.fail(f"never accepted; lengths {lengths}")
    assert len(lengths) <= 2
    bystander = await target.send("6281266666666")
    assert len(bystander.code) <= 7
    assert (await target.check(bystander.code, phone="6281266666666")).valid


async def test_wrong_tries_by_phone_number_leave_the_request_id_alone(target: Target) -> None:
    issued = await target.send("6281277777777")
    for _ in range(20):
        await target.check(another(issued.code), phone="6281277777777")
    assert not (await target.check(issued.code, phone="6281277777777")).valid
    assert (await target.check(issued.code, issued.request_id)).valid


async def test_hundreds_of_checks_at_once_are_all_counted(target: Target) -> None:
    await target.open(20)
    results = await asyncio.gather(*(target.check(f"{n:06d}") for n in range(200)))
    counted, chance = await target.database.read(
        lambda c: c.execute(sa.select(sa.func.sum(otp_checks.c.wrong), sa.func.sum(otp_checks.c.chance))).one()
    )
    assert counted + sum(result.valid for result in results) == 200
    assert chance <= budget.UNSCOPED


async def test_the_owner_is_notified_once_an_hour(target: Target) -> None:
    account_id = target.account.id

    def listen(connection: sa.Connection) -> None:
        endpoints.add(
            connection,
            target.sealing,
            account_id,
            "https://example.com/x",
            allowed=Allowed(),
            events=["otp_guessing"],
            now=target.now,
        )

    await target.database.write(listen)
    await target.open(2)
    for _ in range(2):
        await asyncio.gather(*(target.check(f"{n:06d}") for n in range(200)))
    assert await _events(target) == 1
    target.now += HOUR
    await target.open(2)
    await asyncio.gather(*(target.check(f"{n:06d}") for n in range(200)))
    assert await _events(target) == 2


async def _events(target: Target) -> int:
    found: Any = await target.database.read(
        lambda c: c.scalar(sa.select(sa.func.count()).select_from(events).where(events.c.type == "otp_guessing"))
    )
    return found


async def test_with_a_greatest_length_codes_do_not_grow_beyond_it(target: Target) -> None:
    target.settings = Settings(otp_digits=6, otp_digits_most=7)
    await target.open(40)
    await asyncio.gather(*(target.check(f"{n:06d}") for n in range(100)))
    await target.open(40, first=40)
    longest = await target.database.read(lambda c: c.scalar(sa.select(sa.func.max(otps.c.digits))))
    assert longest == 7
