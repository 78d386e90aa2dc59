"""Values that a database cannot hold or compare with: the caller's mistake, never read as an outage of the database."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from tests.harness.gateway import Harness, open_harness

from kurir.kit.tokens import load_token
from kurir.store.database import BadValue, Batch, Database, DatabaseUnavailable
from kurir.web.compat_v1.endpoint import Endpoint
from kurir.web.compat_v1.endpoint_table import ENDPOINTS

TABLE = sa.Table(
    "t", sa.MetaData(), sa.Column("k", sa.BigInteger, primary_key=True), sa.Column("v", sa.Text, unique=True)
)
MONSTERS: tuple[Any, ...] = (
    "%" * 60_000,
    "\\" * 60_000,
    "x" * 120_000,
    2**63,
    -(2**63) - 1,
    "\u0000" * 100,
    {"value": "y" * 60_000},
    [{"column": 10**30, "dir": "asc"}],
)


@pytest.fixture
async def database(where: Path | str) -> AsyncIterator[Database]:
    database = Database(where)
    await database.start()
    await database.write(TABLE.create)
    yield database
    await database.close()


@pytest.fixture
async def harness(tmp_path: Path, database_url: str) -> AsyncIterator[Harness]:
    async with open_harness(
        tmp_path, database_url=database_url, meta_answer_timeout=0.01, sync_timeout=0.05
    ) as harness:
        harness.devices.connected = harness.cloud.connected = False
        yield harness


async def test_a_value_that_does_not_fit_is_no_outage(database: Database) -> None:
    too_large = sa.select(TABLE.c.k).where(TABLE.c.k == sa.bindparam("k", 2**63, type_=sa.BigInteger))
    works = [
        lambda c: c.execute(TABLE.insert().values(k=2**63, v="x")),
        lambda c: c.execute(TABLE.insert().values(k=-(2**70), v="x")),
        lambda c: c.execute(TABLE.insert().values(k=1, v="half \ud800")),
    ]
    for work in works:
        for what in (database.write, database.read):
            with pytest.raises(BadValue):
                await what(work)  # a reader refuses the value before it can refuse to write
    assert await database.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(TABLE)).scalar()) == 0
    with pytest.raises((BadValue, AssertionError)):
        assert await database.read(lambda c: c.execute(too_large).all()) != []  # PostgreSQL can compare with it


async def test_one_bad_value_costs_its_neighbours_nothing(database: Database) -> None:
    insert = Batch(TABLE, ("k", "v"))
    works = [
        database.write(lambda c: c.execute(TABLE.insert().values(k=1, v="a")) and None),
        database.write(lambda c: c.execute(TABLE.insert().values(k=2**63, v="b")) and None),
        database.append(insert, [(2, "c")]),
        database.write(lambda c: c.execute(TABLE.insert().values(k=3, v="d")) and None),
    ]
    results = await asyncio.gather(*works, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), BadValue, type(None), type(None)]
    assert await database.read(lambda c: list(c.scalars(sa.select(TABLE.c.k).order_by(TABLE.c.k)))) == [1, 2, 3]


@pytest.mark.parametrize("pattern", ["%" * 60_000, "x" * 60_000, "%_" * 40_000], ids=len)
async def test_a_pattern_that_is_too_complex_is_no_outage(database: Database, pattern: str) -> None:
    await database.write(lambda c: c.execute(TABLE.insert().values(k=1, v="a")) and None)
    search = sa.select(TABLE.c.k).where(TABLE.c.v.icontains(pattern, autoescape=True))
    if database.name.startswith("PostgreSQL"):
        assert await database.read(lambda c: c.execute(search).all()) == []
    else:
        with pytest.raises(BadValue):
            await database.read(lambda c: c.execute(search).all())


async def test_a_row_too_large_for_an_index_is_no_outage(where: Path | str) -> None:
    if isinstance(where, Path):
        pytest.skip("SQLite has no such limit")
    database = Database(where)
    await database.start()
    await database.write(TABLE.create)
    with pytest.raises(BadValue):
        await database.write(lambda c: c.execute(TABLE.insert().values(k=1, v=secrets.token_hex(40_000))))
    await database.close()


async def test_an_outage_is_still_one(tmp_path: Path) -> None:
    database = Database(tmp_path / "t.db")
    await database.start()
    await database.write(TABLE.create)
    other = database.engine.connect()
    other.exec_driver_sql("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable):
        await database.write(lambda c: c.execute(TABLE.insert().values(k=1, v="a")), timeout=0.1)
    other.exec_driver_sql("ROLLBACK")
    other.close()
    await database.close()
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(DatabaseUnavailable):
        await Database(tmp_path / "folder.db").start()


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.path)
async def test_no_value_in_any_field_is_read_as_an_outage(harness: Harness, endpoint: Endpoint) -> None:
    furnished = await harness.furnish()
    good = harness.ours.credentials() | endpoint.request_sample | furnished.get(endpoint.path, {})
    names = [field.name for field in endpoint.fields]
    for name in dict.fromkeys((*names, "number_id", "licenses_key", "search", "order")):
        answers = await asyncio.gather(*(harness.post(endpoint.path, good | {name: value}) for value in MONSTERS))
        for value, answer in zip(MONSTERS, answers, strict=True):
            assert answer.status_code < 500, f"{name}={str(value)[:40]!r}: {answer.status_code} {answer.text[:300]}"
    assert harness.surprises() == 0


async def test_no_value_in_an_address_or_a_form_is_read_as_an_outage(harness: Harness) -> None:
    token = {"Authorization": "Bearer " + load_token(harness.gateway.settings.data_dir)}
    odd = [
        "9" * 40,
        str(2**63),
        "%00",
        "a%00b",
        "%ff%fe",
        "%ed%a0%80",
        quote("😀" * 500),
        "x" * 20_000,
        "..%2f..",
        "-1",
    ]
    for part in odd:
        for path in (f"/api/v1/numbers/{part}/pairing", f"/api/v1/messages/{part}", f"/api/v1/contacts/{part}"):
            for method in ("GET", "POST"):
                answer = await harness.client.request(method, path, headers=token)
                assert answer.status_code < 500, (method, path, answer.text[:200])
        form = f"api_key={harness.ours.api_key}&licenses_key={harness.ours.official.key}&search={part}&start={part}"
        for endpoint in ("get-template-list", "get-list-contacts", "info"):
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = await harness.client.post(f"/public/v1/{endpoint}", content=form.encode(), headers=headers)
            assert answer.status_code < 500, (endpoint, part, answer.text[:200])
    for body in (
        b'{"message_ids":["' + b"9" * 50 + b'"]}',
        b'{"contact_id":"\\u0000"}',
        b'{"contact_id":' + b"9" * 300 + b"}",
    ):
        for path in ("/api/v1/messages/msg_zzzzzzzzzzzzz/replay", "/api/v1/contacts/validate", "/api/v1/contacts/sync"):
            answer = await harness.client.post(path, content=body, headers=token)
            assert answer.status_code < 500, (path, answer.text[:200])
    assert harness.surprises() == 0
