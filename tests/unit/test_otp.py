"""One-time passwords: codes are right once, within their lifetime, and all wrong ones look alike."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tests.harness.otp import PHONE, Target, another, another_gateway, new_target

from kurir.accounts import accounts
from kurir.broadcasts.start import start
from kurir.messages.content import TemplateUse
from kurir.otp import budget, retention, rules
from kurir.otp import issue as issue_module
from kurir.otp.budget import WRONG_TRIES, Lengths, Wrong
from kurir.otp.check import CheckResult
from kurir.otp.issue import Issued, SendLimited
from kurir.otp.tables import otp_checks, otps
from kurir.outbox import claim
from kurir.outbox.message_rows import PRIORITY_OTP
from kurir.outbox.tables import messages
from kurir.settings import Settings
from kurir.store.database import Database
from kurir.web.compat_v1.endpoints.otp import send_otp, validate_otp
from kurir.web.compat_v1.envelopes import Answer, WireError

INVALID = {"code": "400", "message": "OTP Code is Invalid"}


@pytest.fixture
async def harness(where: Path | str) -> AsyncIterator[Target]:
    async with new_target(where) as harness:
        harness.lifetime = 60
        yield harness


# -- issuing ---------------------------------------------------------------------------------------------------------


async def test_the_answer_of_send_otp_has_exactly_the_samples_keys(harness: Target) -> None:
    answer = await harness.post(
        send_otp, phone_no="0812-3456-7890", country_code=62, lifetime="90", service_name="Masuk", company_name="PT A"
    )
    assert list(answer.body) == ["code", "message", "type", "otp_code", "req_id"]
    assert answer.body["code"] == "200"
    assert answer.body["message"] == "The message is in the delivery process"
    assert answer.body["type"] == "successfully"
    assert re.fullmatch(r"\d{6}", answer.body["otp_code"])
    assert re.fullmatch(r"[\w-]{40,}", answer.body["req_id"])
    assert answer.headers["X-Message-Id"].startswith("msg_")


async def test_the_message_goes_first_lives_as_long_as_the_code_and_holds_it_sealed(harness: Target) -> None:
    issued = await harness.send(lifetime=120)
    row = await harness.database.read(lambda c: c.execute(sa.select(messages)).one())
    assert (row.id, row.priority, row.origin, row.sealed) == (issued.message_id, PRIORITY_OTP, "otp", 1)
    assert row.recipient == PHONE
    assert row.expires_at == harness.now + 120
    assert issued.code not in row.content
    [claimed] = (await harness.outbox.claim(harness.account.id, harness.number.id, 1)).messages
    assert issued.code in claimed.content.body  # type: ignore[union-attr]


async def test_a_code_overtakes_a_broadcast_of_its_own_number(harness: Target) -> None:
    content = TemplateUse("promo", "id", [])
    people = [PHONE, *(f"62813{n:08}" for n in range(claim.WINDOW + 10))]
    await start(harness.outbox, harness.number, people, content, harness.now)
    issued = await harness.send()
    first, second = (await harness.outbox.claim(harness.account.id, harness.number.id, 2)).messages
    assert (first.id, first.recipient) == (issued.message_id, PHONE)
    assert (second.recipient, second.content) == (people[1], content), "the person's own one waits for the code"


async def test_neither_the_code_nor_the_request_id_is_on_disk(harness: Target) -> None:
    issued = await harness.send()
    row = await harness.database.read(lambda c: c.execute(sa.select(otps)).one())
    assert issued.code not in (row.code_hash, row.request_hash)
    assert issued.request_id not in repr(row)
    if isinstance(harness.database.where, Path):
        stored = b"".join(path.read_bytes() for path in harness.database.where.parent.glob("kurir.db*"))
        assert issued.request_id.encode() not in stored
    assert issued.code not in repr(issued)
    assert issued.request_id not in repr(issued)


async def test_open_codes_of_an_account_are_all_different(harness: Target) -> None:
    harness.settings = Settings(otp_digits=2, otp_digits_most=2)
    codes = {(await harness.send(phone=f"62812345{n:05d}")).code for n in range(60)}
    assert len(codes) == 60


async def test_when_hardly_a_code_is_free_no_further_one_is_sent(harness: Target) -> None:
    harness.settings = Settings(otp_digits=1, otp_digits_most=1)
    with capture_logs() as lines, pytest.raises(SendLimited, match="try again in 60 s") as refused:
        for n in range(11):
            await harness.send(phone=f"62812345{n:05d}")
    assert refused.value.retry_after == rules.LIFETIME_DEFAULT
    crowded = {"event": "otp_codes_crowded", "account_id": harness.account.id, "digits": 1, "log_level": "warning"}
    assert lines == [crowded]
    assert await harness.count(otps) == await harness.count(messages) <= 10


async def test_a_phone_gets_five_codes_in_ten_minutes_and_nothing_is_stored_beyond(harness: Target) -> None:
    for _ in range(5):
        await harness.post(send_otp, phone_no=PHONE)
        harness.now += 10
    with pytest.raises(WireError) as refused:
        await harness.post(send_otp, phone_no=PHONE)
    assert refused.value.code == "400"
    assert refused.value.type == "rate_limited"
    assert refused.value.headers == {"Retry-After": "550"}
    assert await harness.count(messages) == await harness.count(otps) == 5
    await harness.post(send_otp, phone_no="6281200000001")
    harness.now += 550
    await harness.post(send_otp, phone_no=PHONE)
    with pytest.raises(WireError):
        await harness.post(send_otp, phone_no=PHONE)


async def test_of_many_sends_at_once_to_a_phone_five_pass(harness: Target) -> None:
    results = await asyncio.gather(*(harness.send() for _ in range(30)), return_exceptions=True)
    assert sum(isinstance(result, Issued) for result in results) == 5
    assert sum(isinstance(result, SendLimited) for result in results) == 25


async def test_two_gateways_keep_the_limit_per_phone_together(harness: Target) -> None:
    async with another_gateway(harness) as beside:
        for n in range(8):
            phone = f"62812345{n:05d}"
            sends = [gateway.send(phone) for _ in range(12) for gateway in (harness, beside)]
            results = await asyncio.gather(*sends, return_exceptions=True)
            assert Counter(map(type, results)) == {Issued: 5, SendLimited: 19}
    assert await harness.count(otps) == await harness.count(messages) == 40


async def test_a_gateway_that_hangs_within_a_send_holds_up_its_phone_number_only(
    harness: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(harness.database.where, Path):
        pytest.skip("SQLite has one writer at a time")
    hangs, release, digits = threading.Event(), threading.Event(), issue_module._digits

    def hang(*arguments: Any) -> int:
        if not hangs.is_set():
            hangs.set()
            assert release.wait(20)
        return digits(*arguments)

    monkeypatch.setattr(issue_module, "_digits", hang)
    async with another_gateway(harness) as beside:
        hanging = asyncio.create_task(beside.send())
        try:
            assert await asyncio.to_thread(hangs.wait, 10)
            with pytest.raises(SendLimited) as refused:
                await harness.send()
            assert refused.value.retry_after == 1
            assert (await harness.send("6281200000001")).code
        finally:
            release.set()
        assert (await hanging).code
        assert (await harness.send()).code
    assert await harness.count(otps) == 3


async def test_two_gateways_keep_the_least_interval_together(harness: Target) -> None:
    harness.settings = Settings(otp_min_interval=30)
    async with another_gateway(harness) as beside:
        for n in range(8):
            sends = [gateway.send(f"62812345{n:05d}") for _ in range(6) for gateway in (harness, beside)]
            results = await asyncio.gather(*sends, return_exceptions=True)
            assert Counter(map(type, results)) == {Issued: 1, SendLimited: 11}


async def test_open_codes_of_an_account_are_all_different_at_two_gateways(harness: Target) -> None:
    harness.settings = Settings(otp_digits=2, otp_digits_most=2)
    async with another_gateway(harness) as beside:
        sends = [gateway.send(f"62812345{n:04d}{i}") for n in range(25) for i, gateway in enumerate((harness, beside))]
        codes = {issued.code for issued in await asyncio.gather(*sends)}
    assert len(codes) == 50


async def test_the_least_interval_between_two_codes_is_kept(harness: Target) -> None:
    harness.settings = Settings(otp_min_interval=30)
    await harness.send()
    harness.now += 29.5
    with pytest.raises(SendLimited) as refused:
        await harness.send()
    assert refused.value.retry_after == 1
    harness.now += 0.5
    await harness.send()


@pytest.mark.parametrize(("asked", "given"), [("5", 30), (0, 30), ("60", 60), (None, 60), ("99999", 3600), (45, 45)])
async def test_the_lifetime_is_moved_into_its_range(harness: Target, asked: object, given: int) -> None:
    await harness.post(send_otp, phone_no=PHONE, lifetime=asked)
    row = await harness.database.read(lambda c: c.execute(sa.select(otps)).one())
    assert row.expires_at - row.created_at == given


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "phone_no"),
        ({"phone_no": "abc"}, "phone_no"),
        ({"phone_no": PHONE, "lifetime": "soon"}, "lifetime"),
        ({"phone_no": PHONE, "customer_name": "x" * 101}, "customer_name"),
        ({"phone_no": PHONE, "company_name": ["x"]}, "company_name"),
    ],
)
async def test_a_field_that_cannot_be_used_is_named(harness: Target, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(WireError) as refused:
        await harness.post(send_otp, **fields)
    assert refused.value.code == "405"
    assert f"`{named}`" in refused.value.body("en")["message"]
    assert await harness.count(messages) == 0


# -- counting --------------------------------------------------------------------------------------------------------


async def test_what_became_of_codes_and_checks_is_counted_without_names(harness: Target) -> None:
    def counted() -> dict[str, float]:
        found = re.findall(
            r'^kurir_otp_total\{outcome="(\w+)"\} (\S+)$', harness.metrics.render().decode(), re.MULTILINE
        )
        return {outcome: float(count) for outcome, count in found}

    async def checked(expected: str, **fields: Any) -> None:
        before = counted()
        await harness.post(validate_otp, **fields)
        after = counted()
        assert {name for name in after if after[name] != before.get(name, 0)} == {expected}, fields
        assert after[expected] == before.get(expected, 0) + 1

    sent = [(await harness.post(send_otp, phone_no=PHONE, lifetime=3600)).body for _ in range(5)]
    with pytest.raises(WireError):
        await harness.post(send_otp, phone_no=PHONE)
    assert counted() == {"issued": 5, "limited": 1}
    code, req_id = sent[0]["otp_code"], sent[0]["req_id"]
    await checked("wrong", otp_code=another(code))
    await checked("wrong", otp_code=another(code), req_id=req_id)
    await checked("wrong", otp_code=another(code), phone_no=PHONE)
    await checked("unknown", otp_code=code, req_id="no such request")
    await checked("unknown", otp_code=code, phone_no="6281200000009")
    await checked("unknown", otp_code="not digits")
    await checked("unknown", otp_code="1234")  # no code has that length
    await checked("right", otp_code=code)
    await checked("unknown", otp_code=code, req_id=req_id)  # used
    dead = sent[1]
    for _ in range(WRONG_TRIES):
        await checked("wrong", otp_code=another(dead["otp_code"]), req_id=dead["req_id"])
    await checked("unknown", otp_code=dead["otp_code"], req_id=dead["req_id"])
    while (await harness.check(another(sent[2]["otp_code"]))).retry_after is None:
        pass
    await checked("refused", otp_code=another(sent[2]["otp_code"]))
    harness.now += 3600
    await checked("unknown", otp_code=sent[3]["otp_code"], req_id=sent[3]["req_id"])
    assert PHONE not in harness.metrics.render().decode()


# -- checking --------------------------------------------------------------------------------------------------------


async def test_a_code_is_right_once(harness: Target) -> None:
    issued = await harness.send()
    assert (await harness.post(validate_otp, otp_code=issued.code)).body == {
        "code": "200",
        "message": "OTP Code is Valid",
    }
    assert (await harness.post(validate_otp, otp_code=issued.code)).body == INVALID


async def test_two_hundred_racers_on_one_code_have_one_winner(harness: Target) -> None:
    for _ in range(5):
        issued = await harness.send(phone=f"62812{_:08d}")
        racers = [harness.check(issued.code, request_id=issued.request_id if n % 2 else "") for n in range(200)]
        all_checked = await asyncio.gather(*racers)
        assert sum(checked.valid for checked in all_checked) == 1
        harness.now += 7200


async def test_wrong_expired_used_dead_and_unknown_codes_look_alike(harness: Target) -> None:
    expired, used, dead = await harness.send(), await harness.send(), await harness.send()
    await harness.check(used.code)
    for _ in range(WRONG_TRIES):
        await harness.check(another(dead.code), request_id=dead.request_id)
    answers = [
        await harness.post(validate_otp, otp_code=used.code),
        await harness.post(validate_otp, otp_code=dead.code),
        await harness.post(validate_otp, otp_code=dead.code, req_id=dead.request_id),
        await harness.post(validate_otp, otp_code=expired.code, req_id="no such request"),
        await harness.post(validate_otp, otp_code=expired.code, phone_no="6281200000009"),
        await harness.post(validate_otp, otp_code="not digits"),
    ]
    harness.now += 60
    answers.append(await harness.post(validate_otp, otp_code=expired.code))
    assert answers == [Answer(INVALID)] * 7


@pytest.mark.parametrize(("after", "valid"), [(0, True), (59.999, True), (60, False), (61, False)])
async def test_a_code_ends_with_its_lifetime(harness: Target, after: float, valid: bool) -> None:
    issued = await harness.send(lifetime=60)
    harness.now += after
    assert (await harness.check(issued.code)).valid is valid


async def test_a_code_belongs_to_its_account(harness: Target) -> None:
    issued = await harness.send()
    other = await harness.database.write(lambda c: accounts.create(c, name="Lain", email="lain@example.com"))
    assert not (await harness.check(issued.code, account_id=other.id)).valid
    assert not (await harness.check(issued.code, request_id=issued.request_id, account_id=other.id)).valid
    assert (await harness.check(issued.code)).valid


async def test_a_request_id_and_a_phone_number_narrow_the_check(harness: Target) -> None:
    first, second = await harness.send(), await harness.send(phone="6281200000002")
    assert not (await harness.check(first.code, request_id=second.request_id)).valid
    assert not (await harness.check(first.code, phone="6281200000002")).valid
    assert not (await harness.check(first.code, request_id=first.request_id, phone="6281200000002")).valid
    assert (await harness.check(first.code, request_id=first.request_id, phone=PHONE)).valid
    assert (await harness.check(second.code, phone="6281200000002")).valid


async def test_five_wrong_tries_kill_the_narrowed_code_and_no_other(harness: Target) -> None:
    target, bystander = await harness.send(), await harness.send(phone="6281200000003")
    for _ in range(WRONG_TRIES - 1):
        assert await harness.check(another(target.code), request_id=target.request_id) == CheckResult(False)
    survivor = await harness.send(phone="6281200000004")
    for _ in range(WRONG_TRIES - 1):
        await harness.check(another(survivor.code), request_id=survivor.request_id)
    assert (await harness.check(survivor.code)).valid
    await harness.check(another(target.code), request_id=target.request_id)
    assert not (await harness.check(target.code, request_id=target.request_id)).valid
    assert not (await harness.check(target.code)).valid
    assert (await harness.check(bystander.code)).valid


async def test_checks_of_requests_that_do_not_exist_leave_the_accounts_ledger_alone(harness: Target) -> None:
    issued = await harness.send()
    for _ in range(150):
        await harness.check("000000", request_id="somebody else's")
        await harness.check("000000", phone="6281200000009")
    assert await harness.count(otp_checks) == 0
    assert (await harness.check(issued.code)).valid


async def test_a_code_sent_as_a_json_number_gets_its_leading_zeros_back(
    harness: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kurir.otp.rules.secrets.randbelow", lambda _limit: 7)
    issued = await harness.send()
    assert issued.code == "000007"
    assert (await harness.post(validate_otp, otp_code="7")).body == INVALID
    assert (await harness.post(validate_otp, otp_code=7)).body["code"] == "200"


async def test_a_check_without_a_code_names_the_field(harness: Target) -> None:
    with pytest.raises(WireError) as refused:
        await harness.post(validate_otp)
    assert refused.value.code == "405"
    assert "`otp_code`" in refused.value.body("id")["message"]


async def test_a_used_code_stays_used_after_a_restart(harness: Target) -> None:
    issued = await harness.send()
    assert (await harness.check(issued.code)).valid
    await harness.database.close()
    harness.database = Database(harness.database.where)
    await harness.database.start()
    assert not (await harness.check(issued.code)).valid
    await harness.database.close()


async def test_what_no_rule_needs_any_more_is_forgotten(harness: Target) -> None:
    await harness.send()
    await harness.check("not a code")
    assert await harness.count(otp_checks) == 1
    harness.now += 2 * 86_400
    await harness.send()
    assert await retention.forget(harness.database, harness.now - 86_400) == 2
    assert await harness.count(otps) == 1
    assert await harness.count(otp_checks) == 0


# -- rules -----------------------------------------------------------------------------------------------------------


async def test_the_text_holds_code_service_company_customer_and_lifetime_in_both_languages(harness: Target) -> None:
    request = rules.OtpRequest(
        account=harness.account,
        number_id=1,
        phone=PHONE,
        lifetime=3690,
        customer_name="Jono\nSusilo",
        service_name="Login",
        company_name="PT Contoh",
    )
    assert rules.message_text(request, "012345") == (
        "Halo Jono Susilo,\n*012345* adalah kode OTP Login Anda. Berlaku selama 1 jam 1 menit 30 detik.\n"
        "Jangan berikan kode ini kepada siapa pun.\n\nPT Contoh"
    )
    english = await harness.database.write(
        lambda c: accounts.create(c, name="Shop", email="shop@example.com", language="en")
    )
    bare = rules.OtpRequest(account=english, number_id=1, phone=PHONE, lifetime=120)
    assert rules.message_text(bare, "012345") == (
        "Hello,\n*012345* is your OTP code. It is valid for 2 minutes.\nDo not share this code with anyone."
    )


@pytest.mark.parametrize(
    ("language", "names", "text"),
    [
        (
            "id",
            {},
            "Halo,\n*01* adalah kode OTP Anda. Berlaku selama 1 menit.\nJangan berikan kode ini kepada siapa pun.",
        ),
        (
            "id",
            {"company_name": " PT\tContoh "},
            "Halo,\n*01* adalah kode OTP Anda. Berlaku selama 1 menit.\nJangan berikan kode ini kepada siapa pun.\n\n"
            "PT Contoh",
        ),
        (
            "en",
            {"customer_name": "Jono", "service_name": "Shop", "company_name": "Ltd"},
            "Hello Jono,\n*01* is your Shop OTP code. It is valid for 1 minute.\n"
            "Do not share this code with anyone.\n\nLtd",
        ),
    ],
)
async def test_names_that_were_not_given_leave_no_gap(
    harness: Target, language: str, names: dict[str, str], text: str
) -> None:
    account = msgspec.structs.replace(harness.account, language=language)
    request = rules.OtpRequest(account=account, number_id=1, phone=PHONE, **names)
    assert rules.message_text(request, "01") == text


@pytest.mark.parametrize(
    ("seconds", "indonesian", "english"),
    [
        (1, "1 detik", "1 second"),
        (61, "1 menit 1 detik", "1 minute 1 second"),
        (7322, "2 jam 2 menit 2 detik", "2 hours 2 minutes 2 seconds"),
        (3600, "1 jam", "1 hour"),
    ],
)
def test_a_lifetime_in_words(seconds: int, indonesian: str, english: str) -> None:
    assert (rules.humanised(seconds, "id"), rules.humanised(seconds, "en")) == (indonesian, english)


@pytest.mark.parametrize(
    ("sent", "limit", "interval", "wait"),
    [
        ([], 5, 30.0, 0.0),
        ([995.0], 5, 30.0, 25.0),
        ([970.0], 5, 30.0, 0.0),
        ([900.0], 5, 30.0, -70.0),
        ([990.0, 500.0], 2, 0.0, 100.0),
        ([990.0, 500.0], 2, 200.0, 190.0),
        ([990.0, 500.0], 3, 0.0, -10.0),
        ([], 0, 0.0, 600.0),
        ([], -1, 0.0, 600.0),
    ],
)
def test_how_long_a_phone_number_waits_for_its_next_code(
    sent: list[float], limit: int, interval: float, wait: float
) -> None:
    assert rules.send_wait(now=1000.0, sent=sent, limit=limit, min_interval=interval) == wait


@given(
    st.integers(0, 20_000),
    st.dictionaries(st.integers(4, 10), st.floats(0, 0.003), max_size=7),
    st.integers(0, 100_000),
    st.integers(0, 2_000),
    st.integers(4, 10),
)
def test_codes_are_as_short_as_the_limits_allow_and_never_shorter_for_more_open_codes(
    open_codes: int, spent: dict[int, float], hour: int, recent: int, most: int
) -> None:
    lengths = Lengths(4, most)
    wrong = Wrong(spent, max(hour, recent), recent)

    def digits(codes: int) -> int:
        return budget.digits_for(
            lengths, {"account": wrong}, open_codes=codes, recent_codes=codes, wrong_at_phone=0, unscoped=True
        )

    found = digits(open_codes)
    assert 4 <= found <= most
    assert digits(open_codes + 100) >= found
    left = budget.room(spent, found, lengths)
    if found < most:
        assert open_codes < budget.compared(left, found, recent)
        assert wrong.rate * (open_codes + 1) / 10**found <= left


@given(st.dictionaries(st.integers(4, 10), st.floats(0, 0.006), max_size=7), st.integers(4, 9))
def test_what_all_lengths_may_still_spend_is_within_the_limit(spent: dict[int, float], most: int) -> None:
    lengths = Lengths(4, most)
    for digits in range(4, 11):
        left = budget.room(spent, digits, lengths)
        if left > 0:
            group = [cost for length, cost in spent.items() if (length >= most) == (digits >= most)]
            assert left + sum(group) <= (budget.UNSCOPED if most == 4 else budget.SHARED) + 1e-12


@pytest.mark.parametrize(
    ("open_codes", "digits"), [(0, 6), (9, 6), (10, 7), (99, 7), (100, 8), (500, 8), (1500, 9), (15_000, 10)]
)
def test_a_quiet_account_has_codes_of_a_length_for_its_open_ones(open_codes: int, digits: int) -> None:
    found = budget.digits_for(
        Lengths(), {}, open_codes=open_codes, recent_codes=open_codes, wrong_at_phone=0, unscoped=True
    )
    assert found == digits


@pytest.mark.parametrize(("missed", "digits"), [(0, 6), (4, 6), (5, 7), (6, 8), (50, 8), (900, 10), (10**6, 10)])
def test_a_phone_number_that_was_guessed_at_gets_a_code_that_takes_ten_times_as_many_tries(
    missed: int, digits: int
) -> None:
    found = budget.digits_for(Lengths(), {}, open_codes=0, recent_codes=0, wrong_at_phone=missed, unscoped=False)
    assert found == digits
    assert budget.phone_tries(found) / 10**found == pytest.approx(5e-6)


@given(st.integers(1, 100_000))
def test_a_lifetime_in_words_adds_up(seconds: int) -> None:
    units = {"hour": 3600, "minute": 60, "second": 1}
    words = rules.humanised(seconds, "en").split()
    total = sum(int(n) * units[unit.removesuffix("s")] for n, unit in zip(words[::2], words[1::2], strict=True))
    assert total == seconds
