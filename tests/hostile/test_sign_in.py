"""Guessing passwords and keys, many at once, from one address or many: nobody else notices, no limit is passed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher
from tests.harness.gateway import Harness, open_harness

from kurir.accounts import accounts, api_keys, members
from kurir.accounts.limits import Blocked, FailedKeys, source_of
from kurir.accounts.tables import accounts as accounts_table
from kurir.accounts.tables import members as members_table
from kurir.kit.clock import SteadyClock
from kurir.services.sign_in import Busy, SignIn
from kurir.store.database import Database, DatabaseUnavailable

EMAIL, PASSWORD = "sari@example.com", "a good pass: word"
ADDRESS = "192.0.2.7"


@pytest.fixture(autouse=True)
def cheap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the number of comparisons matters they are made cheap."""
    if request.function is not test_reads_do_not_wait_for_forty_sign_ins:
        monkeypatch.setattr(members, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        members._nobody.cache_clear()


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with opened(tmp_path) as harness:
        yield harness


@contextlib.asynccontextmanager
async def opened(folder: Path, **changes: Any) -> AsyncIterator[Harness]:
    """A gateway with a member."""
    async with open_harness(folder, **({"failed_key_limit": "30/minute"} | changes)) as harness:
        account_id = harness.ours.account.id
        password_hash = members.hashed(PASSWORD)
        await harness.gateway.database.write(lambda c: members.create(c, account_id, EMAIL, password_hash))
        yield harness


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The passwords that were compared; comparing stays what it is."""
    found: list[str] = []
    real = members.fits

    def fits(password_hash: str | None, password: str) -> bool:
        found.append(password)
        return real(password_hash, password)

    monkeypatch.setattr(members, "fits", fits)
    yield found


def client_at(harness: Harness, address: str) -> httpx.AsyncClient:
    """A client with another address."""
    transport = httpx.ASGITransport(harness.app, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://gateway.test", timeout=60)


async def page(harness: Harness, password: str, email: str = EMAIL, address: str = ADDRESS) -> int:
    async with client_at(harness, address) as client:
        return (await client.get("/", auth=(email, password))).status_code


async def test_reads_do_not_wait_for_forty_sign_ins(harness: Harness) -> None:
    """With the limits out of the way: forty comparisons at once, and the database answers as ever."""
    database = harness.gateway.database
    sign_in = SignIn(database, SteadyClock(), "100000/minute")
    flood = [asyncio.create_task(sign_in.member("x@y", f"wrong {i}", f"198.51.100.{i}")) for i in range(40)]
    await asyncio.sleep(0.05)
    for _ in range(5):
        began = time.perf_counter()
        assert await database.read(lambda c: c.exec_driver_sql("SELECT 1").scalar()) == 1
        assert (await harness.send("info")).status_code == 200
        assert (await harness.send("get-list-contacts")).status_code == 200
        assert time.perf_counter() - began < 2
    assert not all(task.done() for task in flood)
    busy = [task for task in flood if task.done() and isinstance(task.exception(), Busy)]
    assert len(busy) >= 15  # what is too much is said to be too much, at once
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)


@pytest.mark.parametrize("limit", ["30/minute", "7/minute"])
async def test_of_many_wrong_passwords_at_once_only_so_many_are_looked_at(
    tmp_path: Path, compared: list[str], limit: str
) -> None:
    async with opened(tmp_path, failed_key_limit=limit) as harness:
        statuses = await asyncio.gather(*(page(harness, f"guess {i}") for i in range(100)))
        most = int(limit.partition("/")[0])
        assert 0 < len(compared) <= most
        assert set(statuses) <= {401, 429, 503}
        assert statuses.count(401) == len(compared)
        assert await page(harness, PASSWORD) in {429, 401, 200} if len(compared) < most else 429
        assert (await harness.send("info")).status_code == 200


async def test_many_addresses_guess_one_password_and_lock_out_nobody_who_was_there(
    tmp_path: Path, compared: list[str]
) -> None:
    async with opened(tmp_path, failed_key_limit="5/minute") as harness:
        assert await page(harness, PASSWORD, address="203.0.113.5") == 200
        for i in range(8):
            await page(harness, f"guess {i}", address=f"198.51.100.{i}")
        assert len(compared) == 1 + 5
        assert await page(harness, PASSWORD, address="198.51.100.77") == 429
        assert await page(harness, "mistyped", address="203.0.113.5") == 401
        assert await page(harness, PASSWORD, address="203.0.113.5") == 200


async def test_the_right_password_costs_one_comparison(harness: Harness, compared: list[str]) -> None:
    statuses = await asyncio.gather(*(page(harness, PASSWORD) for _ in range(80)))
    assert set(statuses) == {200}
    assert len(compared) == 1
    # nothing is remembered in a form that gives it away, and a changed password ends it at once
    change = members_table.update().values(password_hash=members._hasher.hash("a new one"))
    await harness.gateway.database.write(lambda c: c.execute(change))
    assert await page(harness, PASSWORD) == 401
    assert await page(harness, "a new one") == 200
    await harness.gateway.database.write(lambda c: c.execute(members_table.delete()))
    assert await page(harness, "a new one") == 401


async def test_a_full_queue_is_reported_and_counts_for_nobody(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_hash: str | None, _password: str) -> bool:
        time.sleep(0.05)
        return False

    monkeypatch.setattr(members, "fits", slow)
    statuses = await asyncio.gather(*(page(harness, "x", f"{i}@example.com", f"198.51.100.{i}") for i in range(60)))
    assert set(statuses) == {401, 503}
    monkeypatch.undo()
    assert await page(harness, PASSWORD) == 200


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic Og==",
        "Basic OnB3",
        "Basic " + "A" * 60_000,
        "Basic eDp5\x00",
        "Basic gDp4",
        "Bearer x",
    ],
)
async def test_what_is_no_sign_in_costs_nothing(harness: Harness, compared: list[str], authorization: str) -> None:
    for _ in range(40):
        answer = await harness.client.get("/", headers={"Authorization": authorization.encode("latin-1")})  # type: ignore[dict-item]
        assert answer.status_code == 401
    assert compared == []
    assert harness.surprises() == 0


async def test_an_unknown_address_takes_as_long(harness: Harness, compared: list[str]) -> None:
    assert await page(harness, "x", "nobody@example.com") == 401
    assert await page(harness, "x\0\ud7ff", EMAIL) == 401
    assert len(compared) == 2


# -- keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["info", "send_personal_message", "validate_otp"])
async def test_of_many_wrong_keys_at_once_only_so_many_are_looked_at(harness: Harness, path: str) -> None:
    looked: list[int] = []
    engine = harness.gateway.database.engine

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "api_keys" in statement:
            looked.append(1)

    names = harness.ours.credentials() if path == "info" else {}
    sa.event.listen(engine, "before_cursor_execute", note)
    answers = await asyncio.gather(
        *(harness.post(path, {**names, "api_key": f"guess{i}", "secret_key": f"guess{i}"}) for i in range(300))
    )
    assert len(looked) == 30
    codes = [answer.status_code for answer in answers]
    assert (codes.count(403), codes.count(400)) == (30, 270)
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers if answer.status_code == 400)
    # the same wrong key a hundred times is no more than that
    looked.clear()
    async with client_at(harness, "198.51.100.1") as other:
        same = [other.post(f"/public/v1/{path}", json={"api_key": "k", "secret_key": "k"}) for _ in range(100)]
        assert [answer.status_code for answer in await asyncio.gather(*same)].count(403) <= 30
    assert len(looked) <= 30


async def test_right_keys_are_not_held_back_however_many_come_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path, failed_key_limit="5/minute") as harness:
        database, sealing = harness.gateway.database, harness.gateway.sealing

        def make(connection: sa.Connection) -> list[str]:
            made = [accounts.create(connection, name=f"{i}", email=f"{i}@example.com") for i in range(60)]
            return [api_keys.create(connection, sealing, account.id) for account in made]

        keys = await database.write(make)
        answers = await asyncio.gather(*(harness.post("info", {"api_key": key}) for key in [*keys, *keys]))
        assert {answer.status_code for answer in answers} == {200}


async def test_a_database_that_is_away_makes_no_key_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path, failed_key_limit="5/minute") as harness:

        async def away(*_: Any, **__: Any) -> Any:
            raise DatabaseUnavailable("gone")

        with monkeypatch.context() as broken:
            broken.setattr(Database, "read", away)
            for i in range(20):
                assert (await harness.post("info", {"api_key": f"x{i}"})).status_code == 503
                assert await page(harness, PASSWORD) == 503
        assert (await harness.send("info")).status_code == 200
        assert await page(harness, PASSWORD) == 200


async def test_an_outage_is_reported_to_all_at_once_not_one_after_the_other(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = Database.read, 0

    async def slow(self: Database, *work: Any, **more: Any) -> Any:
        nonlocal asked
        if more.get("pool") != "strangers":
            return await real(self, *work, **more)
        asked += 1
        await asyncio.sleep(0.2)
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(Database, "read", slow)
    answers = await asyncio.gather(*(harness.send("info") for _ in range(50)), *(page(harness, "x") for _ in range(50)))
    assert {answer if isinstance(answer, int) else answer.status_code for answer in answers} == {503}
    assert asked == 2  # one look-up for the key, one for the sign-in


@pytest.mark.parametrize("days", [(-20, -10), (10, 20)], ids=["ended", "not begun"])
async def test_who_has_no_package_is_within_the_request_limit_too(tmp_path: Path, days: tuple[int, int]) -> None:
    async with opened(tmp_path, rate_limit="50/minute") as harness:
        now = time.time()
        change = accounts_table.update().where(accounts_table.c.id == harness.ours.account.id)
        values = {"package_from": now + days[0] * 86_400, "package_until": now + days[1] * 86_400}
        await harness.gateway.database.write(lambda c: c.execute(change.values(**values)))
        answers = await asyncio.gather(*(harness.send("info") for _ in range(200)))
        codes = [answer.status_code for answer in answers]
        assert (codes.count(403), codes.count(400)) == (50, 150)
        assert (await harness.post("info", {"api_key": harness.theirs.api_key})).status_code == 200


# -- whom a limit is about -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
        ("", ""),
        ("x" * 500, "x" * 64),
    ],
)
def test_a_network_of_ipv6_is_one_source(address: str, source: str) -> None:
    assert source_of(address) == source


async def test_tries_under_way_are_taken_and_given_back() -> None:
    keys = FailedKeys("2/minute")
    async with keys.attempt("a") as first, keys.attempt("a") as second:
        waiting = asyncio.create_task(_tried(keys, "a"))
        async with keys.attempt("b"):
            pass
        await asyncio.sleep(0)
        assert not waiting.done()
        first.right()
        second.right()
    assert await waiting == "wrong"
    assert await _tried(keys, "a") == "wrong"
    assert await _tried(keys, "a") == "blocked"
    assert await _tried(keys, "b") == "wrong"


async def test_nobody_is_left_waiting_when_one_gives_up() -> None:
    keys = FailedKeys("1/minute")
    async with keys.attempt("a") as first:
        waiting = [asyncio.create_task(_tried(keys, "a")) for _ in range(5)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        first.right()
    assert await asyncio.gather(*waiting[1:]) == ["wrong", "blocked", "blocked", "blocked"]
    assert keys._waiting == {} and keys._under_way == {}


async def _tried(keys: FailedKeys, source: str) -> str:
    try:
        async with keys.attempt(source):
            return "wrong"
    except Blocked:
        return "blocked"
