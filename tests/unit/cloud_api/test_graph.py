"""Where exactly a call failed, against servers that fail at each point."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from kurir.channels.cloud_api.graph import Graph, GraphResponse, NoAnswer, NotSent
from kurir.reasons.messages import META_TIMED_OUT

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@asynccontextmanager
async def server(talk: Talk) -> AsyncIterator[str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()


@asynccontextmanager
async def graph(url: str, seconds: float = 2.0) -> AsyncIterator[Graph]:
    calls = Graph(url, seconds)
    await calls.start()
    try:
        yield calls
    finally:
        await calls.close()


def answering(raw: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()

    return talk


async def post(calls: Graph) -> GraphResponse | NotSent | NoAnswer:
    return await calls.call("POST", "123/messages", "secret", json={"to": "628"})


async def test_nobody_listens() -> None:
    async with graph(f"http://127.0.0.1:{free_port()}") as calls:
        assert isinstance(await post(calls), NotSent)


async def test_no_such_host() -> None:
    async with graph("http://graph.invalid") as calls:
        assert isinstance(await post(calls), NotSent)


async def test_not_tls() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"this is no TLS\r\n")
        await writer.drain()

    async with server(talk) as url, graph(url.replace("http:", "https:")) as calls:
        assert isinstance(await post(calls), NotSent)


async def test_a_channel_that_is_not_started_sent_nothing() -> None:
    assert isinstance(await post(Graph("http://127.0.0.1:1", 1.0)), NotSent)


async def test_cut_after_the_request() -> None:
    async with server(answering(b"")) as url, graph(url) as calls:
        assert isinstance(await post(calls), NoAnswer)


async def test_cut_inside_the_answer() -> None:
    raw = b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"messages":[{"id":"wamid.x"}]}'
    async with server(answering(raw)) as url, graph(url) as calls:
        assert isinstance(await post(calls), NoAnswer)


async def test_silence_after_the_request() -> None:
    heard = asyncio.Event()
    over = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        heard.set()
        await over.wait()

    async with server(talk) as url, graph(url, seconds=0.3) as calls:
        call = await post(calls)
        over.set()
    assert heard.is_set()
    assert call == NoAnswer(META_TIMED_OUT())


async def test_garbage_instead_of_http() -> None:
    async with server(answering(b"\x00\x01\x02 garbage\r\n\r\n")) as url, graph(url) as calls:
        assert isinstance(await post(calls), NoAnswer)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'"text"', b"\xff\xfe", b"[" * 100_000])
async def test_an_answer_that_is_no_json_object_is_an_answer_without_body(body: bytes) -> None:
    raw = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    async with server(answering(raw)) as url, graph(url) as calls:
        assert await post(calls) == GraphResponse(502, None)


async def test_a_redirect_is_not_followed() -> None:
    raw = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2\r\n\r\n{}"
    async with server(answering(raw)) as url, graph(url) as calls:
        assert await post(calls) == GraphResponse(302, {})


async def test_an_error_keeps_its_object_and_retry_after() -> None:
    body = b'{"error":{"code":130429}}'
    raw = b"HTTP/1.1 400 Bad Request\r\nRetry-After: 17\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    async with server(answering(raw)) as url, graph(url) as calls:
        call = await post(calls)
    assert isinstance(call, GraphResponse)
    assert call.error == {"code": 130429}
    assert call.retry_after == 17.0


async def test_too_large_an_answer_is_no_answer() -> None:
    body = b"x" * 9_000_000
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    async with server(answering(raw)) as url, graph(url, seconds=10.0) as calls:
        assert isinstance(await post(calls), NoAnswer)
