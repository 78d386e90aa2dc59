"""Callbacks without a right signature: little work, one answer whatever they contain, and limits that spare Meta."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from tests.harness.gateway import Harness, open_harness
from tests.hostile.callbacks import callback, change, client_at, entries, message, post, stored

from kurir.web.meta_callbacks import BODY_LIMIT, PATH


@pytest.fixture
async def harness(tmp_path: Path, database_url: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database_url) as harness:
        yield harness


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as harness:
        yield harness


BACKGROUND = re.compile(r"webhook_|waiting|restricted_until IS|gateways|leases|number_leases")
"""What the gateway asks by itself meanwhile: its deliverer and its sweep."""


async def statements(harness: Harness, raw: bytes, headers: dict[str, str]) -> tuple[list[str], httpx.Response]:
    """What the database is asked while a callback is refused, and the answer."""
    asked: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT") and not BACKGROUND.search(statement):
            asked.append(statement)

    engine = harness.gateway.database.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        answer = await harness.client.post(PATH, content=raw, headers=headers)
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
    return asked, answer


async def test_what_an_unsigned_callback_costs_does_not_depend_on_what_it_says(harness: Harness) -> None:
    if harness.gateway.leases is not None:  # lanes that begin ask the database as well
        await harness.signals.reached("lane_turned", 4)
    forged = {"X-Hub-Signature-256": "sha256=" + "0" * 64}
    known = json.dumps(callback(harness, change(harness))).encode()
    await harness.client.post(PATH, content=known, headers=forged)  # what is kept in memory is read once
    wordy = [
        *({"entry": [{"id": f"{i}", "changes": [{"value": {"metadata": {"phone_number_id": f"{i:x}"}}}]}
                     for i in range(n)]} for n in (1, 10, 20_000)),
        {"entry": [{"changes": [{"value": {"metadata": {"phone_number_id": "1"}}}] * 20_000}]},
        {"entry": [{"id": harness.theirs.official.waba_id}]},
        [[[]]] * 30_000,
    ]  # fmt: skip
    expected, refused = await statements(harness, known, forged)
    assert len(expected) == 1
    for raw in (*(json.dumps(body).encode() for body in wordy), b"", b"{", b"\xff" * 1_000, b"[" * 200_000):
        asked, answer = await statements(harness, raw, forged)
        assert len(asked) == 1
        assert len(asked[0]) < 5_000
        # neither status nor words nor headers tell whether an id is served here
        assert (answer.status_code, answer.text) == (403, refused.text)
        assert answer.headers.keys() == refused.headers.keys()
    for odd in ("x", "sha256=", "sha256=" + "0" * 63, "sha1=" + "0" * 40, "SHA256=" + "0" * 64, "sha256=" + "٣" * 64):
        asked, answer = await statements(harness, known, {b"X-Hub-Signature-256": odd.encode()})  # type: ignore[dict-item]
        assert (asked, answer.status_code, answer.text) == ([], 403, refused.text)
    assert (await entries(harness), await stored(harness)) == ([], set())
    assert harness.surprises() == 0


async def test_many_unsigned_ones_are_refused_unread_but_never_meta(tmp_path: Path) -> None:
    async with open_harness(tmp_path, callback_limit="20/minute") as harness:
        good = json.dumps(callback(harness, change(harness, messages=[message("wamid.a")]))).encode()
        async with client_at(harness, "198.51.100.7") as meta, client_at(harness, "2001:db8::1") as six:
            assert await post(harness, good, client=meta) == 200
            burst = await asyncio.gather(*(post(harness, b"{}", "wrong") for _ in range(120)))
            assert burst.count(403) == 20
            assert burst.count(429) == 100
            for _ in range(40):  # an address that has shown that it is Meta's may be wrong more often
                assert await post(harness, b"{}", "wrong", meta) == 403
            assert await post(harness, good, client=meta) == 200
            # a whole IPv6 network is one stranger
            for host in range(20):
                async with client_at(harness, f"2001:db8::{host + 5:x}") as other:
                    assert await post(harness, b"{}", "wrong", other) == 403
            assert await post(harness, b"{}", "wrong", six) == 429
            async with client_at(harness, "2001:db8:0:1::1") as neighbour:
                assert await post(harness, good, client=neighbour) == 200
        # the handshake counts as well
        query = {"hub.mode": "subscribe", "hub.verify_token": "x", "hub.challenge": "1"}
        assert (await harness.client.get(PATH, params=query)).status_code == 429


async def test_a_signed_callback_lifts_no_limit_for_good(tmp_path: Path) -> None:
    async with open_harness(tmp_path, callback_limit="2/minute") as harness:
        good = json.dumps(callback(harness, change(harness, messages=[message("wamid.a")]))).encode()
        async with client_at(harness, "198.51.100.7") as insider, client_at(harness, "198.51.100.8") as meta:
            assert await post(harness, good, client=insider) == 200
            answers = [await post(harness, b"{}", "wrong", insider) for _ in range(120)]
            assert answers == [403] * 100 + [429] * 20
            assert await post(harness, good, client=meta) == 200
            # its large bodies are limited as well, as many as it holds open at once
            async with large_bodies(meta, 16):
                assert await post(harness, b'{"entry":[]}', client=meta) == 200, "a small one is not concerned"


@asynccontextmanager
async def large_bodies(client: httpx.AsyncClient, most: int) -> AsyncIterator[None]:
    """As long as this lasts, `most` large bodies that nobody signed are held open; one more is refused."""
    released = asyncio.Event()
    holding = 0

    async def slow() -> AsyncIterator[bytes]:
        nonlocal holding
        yield b" " * 300_000
        holding += 1
        await released.wait()
        yield b"}"

    async def large() -> int:
        headers = {"X-Hub-Signature-256": "sha256=" + "0" * 64}
        return (await client.post(PATH, content=slow(), headers=headers)).status_code

    held = [asyncio.create_task(large()) for _ in range(most)]
    async with asyncio.timeout(10):
        while holding < most:
            await asyncio.sleep(0.01)
    assert await large() == 503
    yield
    released.set()
    assert [await one for one in held] == [403] * most


async def test_a_burst_of_signed_ones_from_a_new_address_is_not_limited(tmp_path: Path) -> None:
    async with open_harness(tmp_path, callback_limit="5/minute") as harness:
        raws = [
            json.dumps(callback(harness, change(harness, messages=[message(f"wamid.{i}")]))).encode()
            for i in range(100)
        ]
        assert set(await asyncio.gather(*(post(harness, raw) for raw in raws))) == {200}
        assert len(await stored(harness)) == 100


async def test_large_bodies_of_strangers_are_few_at_a_time(small: Harness) -> None:
    async with large_bodies(small.client, 2):
        assert await post(small, b'{"entry":[]}') == 200  # a small one is not concerned, and shows that it is Meta
        assert await post(small, b" " * 400_000 + b"{}") == 200
    answer = await small.client.post(PATH, content=b" " * (BODY_LIMIT + 1), headers={"X-Hub-Signature-256": "x"})
    assert answer.status_code == 413
