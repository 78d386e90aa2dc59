"""Strangers' connections: heads without end or in drips, too many at a time, odd heads. Everybody else is answered."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from tests.harness.gateway import open_harness
from tests.harness.http import LIMITS, Raw, served

from kurir.serve import _raise_file_limit
from kurir.settings import Settings
from kurir.web.http.allowed_hosts import host_check

GET = b"GET /x HTTP/1.1\r\nHost: gateway\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body and answers with its length."""
    size = 0
    while (message := await receive())["type"] == "http.request":
        size += len(message["body"])
        if not message["more_body"]:
            break
    body = str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    limits = msgspec.structs.replace(LIMITS, head_bytes=8_192, head_seconds=1.0, idle_seconds=1.5)
    async with served(app, limits) as port:
        yield port


async def answered(port: int, data: bytes) -> int:
    """The status of the answer to these bytes."""
    raw = await Raw.open(port)
    await raw.say(data)
    return await raw.status()


async def test_an_honest_head_just_below_the_limit_is_answered(port: int) -> None:
    assert await answered(port, GET + b"X-Long: " + b"x" * 8_000 + b"\r\n\r\n") == 200


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param(GET + b"X-Long: %s\r\n\r\n", id="one field"),
        pytest.param(GET + b"%s: x\r\n\r\n", id="a field's name"),
        pytest.param(b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n", id="the address"),
        pytest.param(b"%s", id="the method"),
        pytest.param(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;%s", id="an extension"),
        pytest.param(
            b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: %s\r\n\r\n", id="a trailer"
        ),
    ],
)
@pytest.mark.parametrize("piece", [1_000, 50_000], ids=["in pieces", "at once"])
async def test_what_is_neither_body_nor_end_is_bounded(port: int, endless: bytes, piece: int) -> None:
    before, _, after = endless.partition(b"%s")
    raw = await Raw.open(port)
    await raw.say(before)
    for _ in range(200_000 // piece):
        await raw.say(b"x" * piece)
        if piece < 8_192:
            await asyncio.sleep(0)
    await raw.say(after)
    status = await raw.status()
    assert status in {431, 400}, status  # httptools knows by itself that there is no such method
    assert await raw.closed()


@pytest.mark.parametrize("before", [b"", GET + b"\r\n"], ids=["alone", "behind another"])
async def test_a_large_head_that_comes_whole_is_refused_too(port: int, before: bytes) -> None:
    raw = await Raw.open(port)
    await raw.say(before + GET + b"X-Long: " + b"x" * 20_000 + b"\r\n\r\n")
    statuses = [await raw.status()]
    if before and statuses[0] == 200:
        statuses.append(await raw.status())
    assert statuses[-1] == 431
    assert await raw.closed()


async def test_many_small_fields_and_many_pipelined_requests_are_bounded(port: int) -> None:
    assert await answered(port, GET + b"a: b\r\n" * 300 + b"\r\n") == 431
    raw = await Raw.open(port)
    await raw.say((GET + b"\r\n") * 200)
    statuses = []
    while status := await raw.status():
        statuses.append(status)
    assert statuses.count(200) <= 40
    assert await raw.closed()
    assert await answered(port, GET + b"\r\n") == 200


async def test_a_long_body_is_no_long_head(port: int) -> None:
    body = b"x" * 1_000_000
    head = b"POST /x HTTP/1.1\r\nHost: gateway\r\nContent-Length: %d\r\n\r\n" % len(body)
    raw = await Raw.open(port)
    for _ in range(2):  # and the connection is as good as before
        await raw.say(head + body)
        assert await raw.status() == 200
    # a body in one chunk, then a request right behind it
    await raw.say(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    await raw.say(b"%x\r\n%s\r\n0\r\n\r\n" % (100_000, b"x" * 100_000) + GET + b"\r\n")
    assert [await raw.status(), await raw.status()] == [200, 200]


@pytest.mark.parametrize(("sent", "expected"), [(b"", 0), (b"GET / HT", 408), (GET, 408), (b"\r\n\r\n", 408)], ids=repr)
async def test_a_head_has_its_time(port: int, sent: bytes, expected: int) -> None:
    raw = await Raw.open(port)
    await raw.say(sent)
    assert await raw.status() == expected
    assert await raw.closed()


async def test_a_dripping_head_has_no_more_time_than_a_silent_one(port: int) -> None:
    raw = await Raw.open(port)

    async def drip() -> None:
        for byte in GET + b"X-Slow: " + b"x" * 1_000:
            await raw.say(bytes([byte]))
            await asyncio.sleep(0.1)

    dripping = asyncio.create_task(drip())
    assert await raw.status(5.0) == 408
    dripping.cancel()
    assert await raw.closed()


async def test_a_connection_may_rest_between_requests_but_not_for_ever(port: int) -> None:
    raw = await Raw.open(port)
    for _ in range(2):
        await raw.say(GET + b"\r\n")
        assert await raw.status() == 200
        await asyncio.sleep(0.5)
    assert await raw.closed(8.0)


async def test_who_never_ends_a_body_that_nobody_reads_is_not_kept(port: int) -> None:
    async def deaf(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async with served(deaf, msgspec.structs.replace(LIMITS, head_seconds=1.0)) as other:
        raw = await Raw.open(other)
        await raw.say(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        assert await raw.status() == 200
        assert await raw.closed(8.0)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 200),
        (b"\x00\x01\x02\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 200),
    ],
)
async def test_one_host_and_only_one(port: int, head: bytes, expected: int) -> None:
    assert await answered(port, head) == expected


async def test_too_many_connections_are_answered_and_the_rest_goes_on() -> None:
    limits = msgspec.structs.replace(LIMITS, connections=50, per_address=1_000, head_seconds=2.0)
    async with served(app, limits) as port:
        kept = await Raw.open(port)
        await kept.say(GET + b"\r\n")
        assert await kept.status() == 200
        idle = [await Raw.open(port) for _ in range(49)]
        for _ in range(3):
            assert await answered(port, GET + b"\r\n") == 503
        many = [await Raw.open(port) for _ in range(400)]
        statuses = await asyncio.gather(*(raw.status() for raw in many))
        assert set(statuses) == {503}  # answered, never reset
        await kept.say(GET + b"\r\n")
        assert await kept.status() == 200
        for raw in idle:  # who says nothing has to go, so that there is room again
            assert await raw.closed()
        assert await answered(port, GET + b"\r\n") == 200


async def test_one_address_cannot_take_all_connections_but_a_proxy_may() -> None:
    limits = msgspec.structs.replace(LIMITS, per_address=5, trusted=("127.0.0.9/32",))
    async with served(app, limits) as port:
        greedy = [await Raw.open(port, "127.0.0.2") for _ in range(8)]
        for raw in greedy:
            await raw.say(GET + b"\r\n")
        assert sorted([await raw.status() for raw in greedy]) == [200] * 5 + [503] * 3
        other = await Raw.open(port, "127.0.0.3")
        await other.say(GET + b"\r\n")
        assert await other.status() == 200
        proxy = [await Raw.open(port, "127.0.0.9") for _ in range(20)]
        for raw in proxy:
            await raw.say(GET + b"\r\n")
        assert [await raw.status() for raw in proxy] == [200] * 20


def test_the_soft_limit_of_files_is_raised_to_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1_000), hard))
    try:
        assert _raise_file_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_an_open_page_is_not_shown_under_a_strangers_name(tmp_path: Any) -> None:
    async with open_harness(tmp_path, status_page="open", public_url="https://kurir.example") as harness:
        for host in (
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
            "a b",
        ):
            for path in ("/", "/api/v1/numbers", "/reference", "/public/v1/info"):
                answer = await harness.client.get(path, headers={"Host": host})
                assert answer.status_code == 421, (host, path)
                assert harness.ours.device.key not in answer.text
        for host in (
            "gateway.test",
            "localhost:8080",
            "127.0.0.1",
            "[::1]:8080",
            "LOCALHOST",
            "kurir.example",
            "10.0.0.7",
        ):
            assert (await harness.client.get("/", headers={"Host": host})).status_code == 200, host
    async with open_harness(tmp_path / "members") as harness:
        assert (await harness.client.get("/reference", headers={"Host": "shop.example"})).status_code == 200


@pytest.mark.parametrize("value", ["max_connections", "max_head_bytes", "head_timeout", "keep_alive_timeout"])
def test_a_limit_of_nothing_is_refused_by_name(value: str) -> None:
    with pytest.raises(ValueError, match=f"KURIR_{value.upper()}"):
        Settings.load({f"KURIR_{value.upper()}": "0"})


def test_without_an_open_page_every_host_is_answered() -> None:
    assert host_check(Settings(), "http://a") is None


async def test_httpx_reads_the_refusal(port: int) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/", headers={"X-Long": "x" * 20_000})
        assert answer.status_code == 431
        assert answer.json()["code"] == "431"


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "permintaan harus memuat tepat satu header Host"),
        (b"GET / HTTP/1.1\r\nAccept-Language: en\r\n\r\n", "the request must have one Host header field"),
        (b"GET /api/v1/numbers HTTP/1.1\r\n\r\n", "the request must have one Host header field"),
        (b"GET /api/v1/numbers HTTP/1.1\r\nAccept-Language: id\r\n\r\n", "permintaan harus memuat tepat satu header"),
        (GET + b"a: b\r\n" * 300 + b"\r\n", "permintaan memuat lebih dari 256 header"),
        (GET + b"Accept-Language: en\r\n" + b"a: b\r\n" * 300 + b"\r\n", "the request has more than 256 header fields"),
        (GET + b"X-Long: " + b"x" * 20_000 + b"\r\n\r\n", "kepala (header) permintaan lebih besar dari 8192 byte"),
        (GET, "kepala (header) permintaan tidak selesai diterima dalam 1 detik"),
        (GET + b"Accept-Language: en\r\nX: ", "the head of the request did not arrive within 1 seconds"),
        (b"\x00\x01\x02\r\n\r\n", "permintaan ini bukan HTTP yang sah"),
    ],
)
async def test_a_refusal_is_in_the_language_that_the_head_asks_for(port: int, sent: bytes, words: str) -> None:
    raw = await Raw.open(port)
    await raw.say(sent)
    async with asyncio.timeout(10):
        _, _, body = (await raw.reader.read()).partition(b"\r\n\r\n")
    assert json.loads(body)["message"].startswith(words)


async def test_who_is_not_let_in_reads_it_in_indonesian() -> None:
    async with served(app, msgspec.structs.replace(LIMITS, per_address=1)) as port:
        first = await Raw.open(port)
        await first.say(GET + b"\r\n")
        assert await first.status() == 200
        second = await Raw.open(port)
        async with asyncio.timeout(10):
            _, _, body = (await second.reader.read()).partition(b"\r\n\r\n")
    assert json.loads(body)["message"] == "terlalu banyak sambungan terbuka dari alamat ini"
