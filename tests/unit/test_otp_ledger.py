"""What is counted of checks of one-time passwords: the cost of each to a guesser, the last hour, and the suspicion."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs
from tests.harness.otp import PHONE, Target, another, new_target

from kurir.accounts import accounts
from kurir.events.tables import events
from kurir.numbers import numbers
from kurir.otp import budget, ledger, rules
from kurir.otp.budget import Lengths, Scope, Wrong
from kurir.otp.check import Attempt, CheckResult
from kurir.otp.ledger import Page
from kurir.otp.tables import otp_checks, otps
from kurir.outbox.tables import messages
from kurir.settings import Settings

MINUTE, HOUR = 60, 3600
WRONG = CheckResult(False)
NO_CODE = CheckResult(False, any_open=False)
RIGHT = CheckResult(True)


@pytest.fixture
async def target(where: Path | str) -> AsyncIterator[Target]:
    async with new_target(where) as target:
        yield target


async def counted(target: Target) -> dict[tuple[str, int], tuple[int, Any]]:
    """Wrong checks and their chance, by scope and length."""
    c = otp_checks.c
    statement = sa.select(c.scope, c.digits, c.wrong, c.chance).where(c.account_id == target.account.id)
    rows = await target.database.read(lambda connection: connection.execute(statement).all())
    return {(row.scope, row.digits): (row.wrong, pytest.approx(row.chance)) for row in rows}


async def check(target: Target, code: str, **narrowed: Any) -> CheckResult:
    return await target.otps.check(Attempt(account_id=target.account.id, code=code, **narrowed))


# -- what a check costs ------------------------------------------------------------------------------------------------


async def test_a_check_without_scope_costs_as_many_chances_as_there_are_open_codes_of_its_length(
    target: Target,
) -> None:
    issued = await target.open(3)
    assert await check(target, another(issued[0].code)) == WRONG
    assert await counted(target) == {("account", 6): (1, 3e-6)}
    assert await check(target, "1234567") == NO_CODE
    assert await check(target, "no code") == NO_CODE
    assert await check(target, issued[1].code) == RIGHT
    assert await counted(target) == {("account", 6): (1, 3e-6), ("account", 7): (1, 0.0), ("account", 0): (1, 0.0)}
    assert await check(target, issued[1].code) == WRONG
    assert await counted(target) == {("account", 6): (2, 5e-6), ("account", 7): (1, 0.0), ("account", 0): (1, 0.0)}


async def test_a_check_with_a_scope_costs_the_codes_of_that_scope(target: Target) -> None:
    first, second, elsewhere = await target.send(), await target.send(), await target.send("6281200000001")
    wrong = another(first.code) if another(first.code) != second.code else another(second.code)
    assert await check(target, wrong, phone=PHONE) == WRONG
    assert await counted(target) == {("phone", 6): (1, 2e-6)}
    assert await check(target, elsewhere.code, phone=PHONE) == WRONG
    assert await check(target, another(first.code), request_id=first.request_id) == WRONG
    assert await counted(target) == {("phone", 6): (2, 4e-6), ("request", 6): (1, 1e-6)}
    assert await check(target, first.code, request_id=first.request_id) == RIGHT
    assert await check(target, second.code, phone=PHONE) == RIGHT
    assert await counted(target) == {("phone", 6): (2, 4e-6), ("request", 6): (1, 1e-6)}
    # nothing is open any more under either, and another length was never sent
    for narrowed in ({"phone": PHONE}, {"request_id": first.request_id}, {"phone": "6281200000001", "code": "1234567"}):
        assert await check(target, **{"code": first.code, **narrowed}) == NO_CODE
    assert await counted(target) == {("phone", 6): (2, 4e-6), ("request", 6): (1, 1e-6)}


async def test_a_code_that_came_as_a_number_is_tried_in_every_length_that_it_may_have(target: Target) -> None:
    codes = Attempt(account_id=1, code="7", unpadded=True).codes(Lengths(4, 6))
    assert codes == {4: "0007", 5: "00007", 6: "000007"}
    assert Attempt(account_id=1, code="12345", unpadded=True).codes(Lengths(4, 6)) == {5: "12345", 6: "012345"}
    assert Attempt(account_id=1, code="1" * 10).codes(Lengths(4, 6)) == {10: "1" * 10}
    assert Attempt(account_id=1, code="1" * 11).codes(Lengths(4, 6)) == {0: "1" * 11}
    await target.open(3)
    assert await check(target, "0000007", unpadded=True) == NO_CODE
    longer = {("account", digits): (1, 0.0) for digits in range(7, 11)}
    assert await counted(target) == longer
    assert await check(target, "98765", unpadded=True) == WRONG
    longer = dict.fromkeys(longer, (2, 0.0))
    assert await counted(target) == longer | {("account", 6): (1, 3e-6)}


@pytest.mark.parametrize(("by", "column"), [("request_id", "wrong_tries"), ("phone", "wrong_by_phone")])
async def test_a_narrowed_miss_is_counted_at_the_codes_that_were_meant_only(
    target: Target, by: str, column: str
) -> None:
    meant, other = await target.send(), await target.send("6281200000001")
    used = await target.send()
    assert await check(target, used.code, request_id=used.request_id) == RIGHT
    narrowed = {"request_id": meant.request_id} if by == "request_id" else {"phone": PHONE}
    for _ in range(2):
        await check(target, another(meant.code), **narrowed)
    columns = (otps.c.wrong_tries, otps.c.wrong_by_phone)
    rows = await target.database.read(
        lambda c: [dict(row._mapping) for row in c.execute(sa.select(*columns).order_by(otps.c.id))]
    )
    none = {"wrong_tries": 0, "wrong_by_phone": 0}
    assert rows == [none | {column: 2}, none, none]
    assert await check(target, other.code) == RIGHT


async def test_when_a_phones_hour_is_spent_its_checks_are_refused_and_the_right_code_stays(target: Target) -> None:
    target.settings = Settings(otp_digits=4, otp_digits_most=4)
    first, second = await target.send(), await target.send("6281200000001")
    for _ in range(int(budget.PHONE * 10**4)):
        target.now += 1  # 0.1 % are ten tries of four digits: five for each of two phone numbers
        for issued, phone in ((first, PHONE), (second, "6281200000001")):
            await check(target, another(issued.code), phone=phone)
    third = await target.send("6281200000002")
    assert await check(target, third.code, phone="6281200000002") == CheckResult(False, MINUTE)
    target.now += HOUR + MINUTE
    fourth = await target.send("6281200000002")
    assert await check(target, fourth.code, phone="6281200000002") == RIGHT


# -- the last hour -----------------------------------------------------------------------------------------------------


async def test_the_page_is_the_last_hour_of_one_account(target: Target) -> None:
    other = await target.database.write(lambda c: accounts.create(c, name="Lain", email="lain@example.com"))
    now = target.now

    def add(connection: sa.Connection, ago: int, scope: Scope = "account", digits: int = 6, wrong: int = 1) -> None:
        chance = 1e-6 * wrong
        ledger.add(connection, target.account.id, scope, digits, now - ago * MINUTE, wrong=wrong, chance=chance)

    def work(connection: sa.Connection) -> Page:
        for ago in (0, 1, 2, 60, 61):
            add(connection, ago, wrong=1 + ago)
        add(connection, 0, wrong=100)
        add(connection, 1, digits=7)
        add(connection, 2, scope="phone")
        ledger.add(connection, other.id, "account", 6, now, wrong=9, chance=9e-6)
        return ledger.of_hour(connection, target.account.id, now)

    page = await target.database.write(work)
    wrong = page.wrong["account"]
    assert (wrong.hour, wrong.recent) == (1 + 100 + 2 + 3 + 61 + 1, 1 + 100 + 2 + 1)
    assert wrong.spent == {6: pytest.approx(167e-6), 7: pytest.approx(1e-6)}
    assert page.wrong["phone"] == Wrong({6: 1e-6}, 1, 0)
    assert set(page.wrong) == {"account", "phone"}
    assert (page.open_codes, page.notified) == ({}, False)


async def test_the_page_counts_codes_that_can_be_used(target: Target) -> None:
    target.settings = Settings(otp_sends_per_phone=10)
    used, dead, _open = await target.send(), await target.send(), await target.send()
    await target.send(lifetime=30)
    await check(target, used.code)
    for _ in range(budget.WRONG_TRIES):
        await check(target, another(dead.code), request_id=dead.request_id)
    longer = otps.update().where(otps.c.id == 3).values(digits=7)
    await target.database.write(lambda c: c.execute(longer) and None)

    async def page(account_id: int) -> dict[int, int]:
        return (await target.database.read(lambda c: ledger.of_hour(c, account_id, target.now))).open_codes

    assert await page(target.account.id) == {6: 1, 7: 1}
    assert await page(target.account.id + 1) == {}
    target.now += 30
    assert await page(target.account.id) == {7: 1}


@pytest.mark.parametrize(
    ("scopes", "unscoped"),
    [((), True), (("request",), False), (("request", "phone"), False), (("request", "account"), True)],
)
async def test_who_has_only_checked_with_a_scope_is_taken_to_go_on_so(
    target: Target, scopes: tuple[Scope, ...], unscoped: bool
) -> None:
    def work(connection: sa.Connection, account_id: int) -> bool:
        for scope in scopes:
            ledger.add(connection, target.account.id, scope, 6, target.now, wrong=0, chance=0.0)
        ledger.first_notice(connection, target.account.id, target.now)
        return ledger.checks_without_scope(connection, account_id)

    assert await target.database.write(lambda c: work(c, target.account.id)) is unscoped
    assert await target.database.write(lambda c: work(c, target.account.id + 1)) is True


async def test_one_notice_an_hour_by_the_clock(target: Target) -> None:
    target.now = 500_000.0 * HOUR

    async def first(after: float) -> tuple[bool, bool]:
        at = target.now + after

        def work(connection: sa.Connection) -> tuple[bool, bool]:
            before = ledger.of_hour(connection, target.account.id, at).notified
            return before, ledger.first_notice(connection, target.account.id, at)

        return await target.database.write(work)

    assert await first(0) == (False, True)
    assert await first(HOUR - 1) == (True, False)
    assert await first(HOUR) == (False, True)
    assert await first(HOUR + 1) == (True, False)


# -- suspicion ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scope", "field"), [("account", "otp_code"), ("phone", "phone_no"), ("request", "req_id")])
async def test_fifty_wrong_checks_in_two_minutes_are_reported_once_an_hour(
    target: Target, scope: str, field: str
) -> None:
    target.now = 500_000.0 * HOUR + 10
    number = await target.database.write(lambda c: numbers.add_linked_device(c, target.account.id))
    issued = await target.open(60)
    target.number = number  # the latest code is another number's
    issued += await target.open(1, first=60)
    target.now += 1

    async def misses(n: int) -> None:
        phone, code = f"62812{n:08d}", another(issued[n].code)
        match scope:
            case "account":
                assert await check(target, "x") == NO_CODE
            case "phone":
                assert await check(target, code, phone=phone) == WRONG
            case _:
                assert await check(target, code, request_id=issued[n].request_id) == WRONG

    with capture_logs() as lines:
        for n in range(50):
            await misses(n)
        assert lines == []
        for n in range(50, 55):
            await misses(n)
    suspected = {"event": "otp_guessing_suspected", "account_id": target.account.id, "scope": scope}
    assert lines == [suspected | {"log_level": "warning"}]
    guessing = sa.select(events).where(events.c.type == "otp_guessing")
    row = await target.database.read(lambda c: c.execute(guessing).one())
    assert (row.account_id, row.number_id, row.chat, row.created_at) == (
        target.account.id, number.id, "", target.now,
    )  # fmt: skip
    assert json.loads(row.body)["data"] == {
        "number_id": number.key, "checked_by": field, "wrong_checks": 50, "timestamp": int(target.now),
    }  # fmt: skip


async def test_an_account_that_never_sent_a_code_has_no_number_to_report_and_the_log_says_it(target: Target) -> None:
    with capture_logs() as lines:
        for _ in range(52):
            assert await check(target, "x") == NO_CODE
    assert [line["event"] for line in lines] == ["otp_guessing_suspected"]
    assert await target.count(events) == 0


# -- the next code -----------------------------------------------------------------------------------------------------


async def test_a_code_is_stored_as_its_hashes_beside_its_message(target: Target) -> None:
    issued = await target.send(lifetime=120)
    row = await target.database.read(lambda c: c.execute(sa.select(otps)).one())
    assert dict(row._mapping) == {
        "id": 1,
        "account_id": target.account.id,
        "code_hash": rules.code_hash(target.sealing, target.account.id, issued.code),
        "request_hash": rules.request_hash(target.sealing, target.account.id, issued.request_id),
        "phone": PHONE,
        "created_at": target.now,
        "expires_at": target.now + 120,
        "used_at": None,
        "wrong_tries": 0,
        "message_id": issued.message_id,
        "digits": 6,
        "wrong_by_phone": 0,
    }
    assert rules.code_hash(target.sealing, target.account.id + 1, issued.code) != row.code_hash
    assert repr(issued) == f"Issued(message_id={issued.message_id})"
    repeated = await target.database.read(lambda c: c.execute(sa.select(messages)).one())
    assert (repeated.number_id, repeated.expires_at) == (target.number.id, target.now + 120)


async def with_scope_only(target: Target) -> None:
    """The account has checked with a request id so far: then its open codes make the next ones no longer."""
    await target.database.write(
        lambda c: ledger.add(c, target.account.id, "request", 4, target.now, wrong=0, chance=0.0)
    )


async def test_the_codes_of_two_hours_make_the_next_one_longer(target: Target) -> None:
    target.settings = Settings(otp_digits=4, otp_digits_most=6)
    await with_scope_only(target)
    other = await target.database.write(lambda c: accounts.create(c, name="Lain", email="lain@example.com"))
    lengths = [len((await target.send(f"62812{n:08d}", lifetime=30)).code) for n in range(22)]
    assert lengths == [4] * 20 + [5] * 2, "20 first tries are 0.2 % of four digits"
    ours = target.account, target.number
    target.account = other
    target.number = await target.database.write(lambda c: numbers.add_linked_device(c, other.id))
    await with_scope_only(target)
    assert len((await target.send("6281300000000")).code) == 4
    target.account, target.number = ours
    target.now += 2 * HOUR - 1
    assert len((await target.send("6281400000000", lifetime=30)).code) == 5
    target.now += 31
    assert len((await target.send("6281400000001")).code) == 4


async def test_wrong_checks_at_a_phone_number_make_its_next_code_longer_for_an_hour(target: Target) -> None:
    await with_scope_only(target)
    issued = await target.send(lifetime=30)
    for _ in range(5):
        await check(target, another(issued.code), phone=PHONE)
    assert len((await target.send("6281200000001")).code) == 6
    target.now += HOUR - 1
    assert len((await target.send(lifetime=30)).code) == 7
    target.now += HOUR
    assert len((await target.send()).code) == 6


async def test_open_codes_that_are_checked_without_scope_make_the_next_one_longer(target: Target) -> None:
    lengths = [len(one.code) for one in await target.open(12)]
    assert lengths == [6] * 10 + [7] * 2
    target.now += HOUR
    assert len((await target.send("6281300000000")).code) == 6


@pytest.mark.parametrize(("least", "most", "digits"), [(6, 4, 6), (8, 8, 8), (6, 10, 6)])
async def test_the_longest_code_is_never_shorter_than_the_shortest(
    target: Target, least: int, most: int, digits: int
) -> None:
    # the settings refuse such a pair; a module that is used alone must not fail
    target.settings = msgspec.structs.replace(Settings(), otp_digits=least, otp_digits_most=most)
    assert len((await target.send()).code) == digits
    assert await check(target, "1" * digits, request_id="x") == NO_CODE


@pytest.mark.parametrize("scope", ["phone", "request"])
@pytest.mark.parametrize(
    ("wrong", "digits"),
    [
        (Wrong({6: 0.0}, 1_000, 0), 6),
        (Wrong({6: 0.0}, 1_001, 0), 7),
        (Wrong({6: 0.0003, 7: 0.0002}, 499, 0), 6),
        (Wrong({6: 0.0003, 7: 0.0002}, 501, 0), 7),
        (Wrong({6: 0.0}, 40, 33), 6),
        (Wrong({6: 0.0}, 40, 34), 7),
        (Wrong({6: 0.0}, 200_000, 0), 9),
        (Wrong({6: 0.0011}, 1, 0), 10),
        (Wrong({6: 0.0011}, 0, 0), 6),
    ],
)
def test_wrong_checks_of_either_scope_make_codes_longer_before_the_hour_is_spent(
    scope: Scope, wrong: Wrong, digits: int
) -> None:
    found = budget.digits_for(Lengths(), {scope: wrong}, open_codes=0, recent_codes=0, wrong_at_phone=0, unscoped=False)
    assert found == digits


@pytest.mark.parametrize(
    ("spent", "digits", "lengths", "left"),
    [
        ({}, 6, Lengths(6, 6), 0.006),
        ({6: 0.001, 9: 0.001}, 6, Lengths(6, 6), 0.004),
        ({}, 6, Lengths(6, 10), 0.0015),
        ({6: 0.0005}, 6, Lengths(6, 10), 0.001),
        ({7: 0.001, 8: 0.001}, 6, Lengths(6, 10), 0.0005),
        ({10: 0.002, 11: 0.003}, 6, Lengths(6, 10), 0.0015),
        ({6: 0.002}, 10, Lengths(6, 10), 0.003),
        ({10: 0.001, 11: 0.0005}, 10, Lengths(6, 10), 0.0015),
        ({10: 0.001}, 11, Lengths(6, 10), 0.002),
    ],
)
def test_what_is_left_of_the_hour_for_codes_of_a_length(
    spent: dict[int, float], digits: int, lengths: Lengths, left: float
) -> None:
    assert budget.room(spent, digits, lengths) == pytest.approx(left)


@pytest.mark.parametrize(
    ("left", "digits", "recent", "codes"),
    [
        (0.0015, 6, 0, 10),
        (0.0015, 6, 7, 10),
        (0.0015, 6, 8, 9),
        (0.0015, 6, 50, 1),
        (0.0015, 6, 51, 1),
        (0.0015, 7, 10_000, 15),
        (0.0, 6, 0, 0),
        (-0.001, 6, 0, 0),
    ],
)
def test_with_how_many_codes_a_guess_is_compared(left: float, digits: int, recent: int, codes: int) -> None:
    assert budget.compared(left, digits, recent) == codes
