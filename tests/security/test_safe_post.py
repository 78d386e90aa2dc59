"""Posting to customers' servers: the same hostile addresses as for fetching, and answers that want too much."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from tests.security.test_safe_fetch import (  # noqa: F401  (fixtures are used by name)
    PRIVATE,
    TABLE,
    Names,
    Stranger,
    answer,
    fetching,
    stranger,
    tripwire,
)

from kurir.kit import safe_fetch
from kurir.kit.safe_fetch import FetchFailed, Posted, SafeFetch
from kurir.kit.url_rules import UrlRefused

BODY = b'{"type":"incoming_chat"}'


async def post(safe: SafeFetch, url: str, *, within: float = 10.0, most_answer: int = 20_000) -> Posted:
    headers = {"Content-Type": "application/json", "webhook-id": "evt_1"}
    return await safe.post(url, BODY, headers, within=within, most_answer=most_answer)


async def test_no_url_of_the_table_is_posted_to(tripwire: list[tuple[str, int]]) -> None:  # noqa: F811
    names = Names()
    async with fetching(names=names) as safe:
        for url in TABLE:
            with pytest.raises(UrlRefused):
                await post(safe, url)
    assert tripwire == []
    assert names.asked == []


async def test_no_name_leads_to_a_private_address(tripwire: list[tuple[str, int]]) -> None:  # noqa: F811
    for address in PRIVATE:
        names = Names(alone_example=[[address]], mixed_example=[["93.184.215.14", address]])
        async with fetching(names=names) as safe:
            for host in ("alone.example", "mixed.example"):
                with pytest.raises(UrlRefused):
                    await post(safe, f"http://{host}/")
    assert tripwire == []


async def test_no_name_is_bound_anew(tripwire: list[tuple[str, int]]) -> None:  # noqa: F811
    names = Names(rebound_example=[["93.184.215.14"], ["127.0.0.1"]])
    async with fetching(names=names) as safe:
        with pytest.raises(FetchFailed):
            await post(safe, "http://rebound.example/")
    assert names.asked == ["rebound.example"]
    assert tripwire == [("93.184.215.14", 80)]


async def test_the_request_is_plain(stranger: Stranger) -> None:  # noqa: F811
    got: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.readexactly(len(BODY)))
        writer.write(answer(b"thanks", status=202, Retry_After="7", Set_Cookie="a=b"))
        await writer.drain()

    stranger.replies["/hook"] = take
    async with fetching(f"127.0.0.1:{stranger.port}") as safe:
        assert await post(safe, stranger.url("/hook")) == Posted(202, "7", b"thanks")
        await post(safe, stranger.url("/hook"))
    heads = [head.lower() for _, head in stranger.requests]
    assert got == [BODY, BODY]
    assert all(head.startswith(b"post /hook http/1.1\r\n") for head in heads)
    assert all(b"webhook-id: evt_1\r\n" in head for head in heads)
    assert not any(b"cookie" in head or b"gzip" in head for head in heads)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(stranger: Stranger, status: int) -> None:  # noqa: F811
    stranger.replies["/hook"] = answer(status=status, Location="/trap")
    async with fetching(f"127.0.0.1:{stranger.port}") as safe:
        assert (await post(safe, stranger.url("/hook"))).status == status
    assert [path for path, _ in stranger.requests] == ["/hook"]


async def test_only_the_beginning_of_an_answer_is_read(stranger: Stranger) -> None:  # noqa: F811
    sent = 0

    async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not stranger.over.is_set():
            writer.write(b"x" * 65_536)
            sent += 65_536
            await writer.drain()

    stranger.replies["/hook"] = endless
    async with fetching(f"127.0.0.1:{stranger.port}") as safe:
        response = await post(safe, stranger.url("/hook"))
    assert response == Posted(200, "", b"x" * 20_000)
    assert sent < 20_000_000  # what the system's buffers took, and no more


async def test_an_answer_that_dawdles_or_breaks_off_counts_by_its_status(
    stranger: Stranger,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(safe_fetch, "_ANSWER_TIMEOUT", 0.2)

    async def dawdle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        await writer.drain()
        await stranger.over.wait()

    stranger.replies["/dawdle"] = dawdle
    stranger.replies["/short"] = answer(b"abc", length=100)
    async with fetching(f"127.0.0.1:{stranger.port}") as safe:
        assert await post(safe, stranger.url("/dawdle")) == Posted(200, "", b"abc")
        assert (await post(safe, stranger.url("/short"))).status == 200


async def test_no_answer_is_waited_for_longer_than_asked(stranger: Stranger) -> None:  # noqa: F811
    async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await stranger.over.wait()

    async def headers_for_ever(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while not stranger.over.is_set():
            writer.write(b"X-More: y\r\n")
            await writer.drain()

    stranger.replies |= {"/silent": silent, "/headers": headers_for_ever}
    async with fetching(f"127.0.0.1:{stranger.port}") as safe:
        for path in ("/silent", "/headers"):
            began = time.monotonic()
            with pytest.raises(FetchFailed):
                await post(safe, stranger.url(path), within=0.5)
            assert time.monotonic() - began < 5


@pytest.mark.parametrize("reply", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x16\x03\x01"])
async def test_what_is_no_http_is_a_failure_in_plain_words(stranger: Stranger, reply: bytes) -> None:  # noqa: F811
    stranger.replies["/hook"] = reply
    async with fetching(f"127.0.0.1:{stranger.port}") as safe:
        with pytest.raises(FetchFailed) as failure:
            await post(safe, stranger.url("/hook"))
    assert "127.0.0.1" not in failure.value.reason


async def test_a_closed_port_is_a_failure_in_plain_words() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        async with fetching(f"127.0.0.1:{port}") as safe:
            with pytest.raises(FetchFailed, match="could not be reached"):
                await post(safe, f"http://127.0.0.1:{port}/")
