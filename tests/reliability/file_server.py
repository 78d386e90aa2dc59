"""A server of pictures and files on loopback that misbehaves as told: for each path one behaviour a request."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from kurir_sandbox.http_faults import abort

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""Answers one request; the connection is closed afterwards. Writing raises OSError when the client has gone."""


class FileServer:
    """`asked` counts the requests of each path, `open` those being answered now."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        self._plans: dict[str, tuple[Behaviour, ...]] = {}
        self._port = 0

    def offers(self, path: str, *behaviours: Behaviour) -> str:
        """The URL of a path that behaves so, one behaviour a request, the last one for ever."""
        self._plans[path] = behaviours
        return f"http://127.0.0.1:{self._port}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = ""
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            self.asked[path] += 1
            self.open[path] += 1
            plan = self._plans[path]
            await plan[min(self.asked[path], len(plan)) - 1](writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            self.open[path] -= 1
            writer.close()


@asynccontextmanager
async def serving_files() -> AsyncIterator[FileServer]:
    """A running server; its answers end with it."""
    files = FileServer()
    answering: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(files._serve(reader, writer))
        answering.add(task)
        task.add_done_callback(answering.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    files._port = server.sockets[0].getsockname()[1]
    try:
        yield files
    finally:
        server.close()
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)


def whole(body: bytes, *, claims: int | None = None) -> Behaviour:
    """The body, under a Content-Length that may lie."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(_head(200, f"Content-Length: {len(body) if claims is None else claims}") + body)
        await writer.drain()

    return behave


def status(code: int, *headers: str) -> Behaviour:
    """A bare status."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(_head(code, "Content-Length: 0", *headers))
        await writer.drain()

    return behave


def cut(body: bytes) -> Behaviour:
    """Half of the body, then a reset."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(_head(200, f"Content-Length: {len(body)}") + body[: len(body) // 2])
        await writer.drain()
        abort(writer.transport)

    return behave


def trickle(body: bytes, pause: float = 0.2) -> Behaviour:
    """A byte now and then, for as long as anybody listens."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(_head(200, f"Content-Length: {len(body)}"))
        for byte in body:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(pause)

    return behave


def crawl(until: asyncio.Event) -> Behaviour:
    """25 kB a second of a large body, then a reset."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(_head(200, "Content-Length: 4000000"))
        while not until.is_set():
            writer.write(bytes(5_000))
            await writer.drain()
            await asyncio.sleep(0.2)
        abort(writer.transport)

    return behave


def endless(start: bytes) -> Behaviour:
    """More and more, without a word on how much."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(_head(200) + start)
        while not writer.transport.is_closing():
            writer.write(bytes(100_000))
            await writer.drain()

    return behave


def hold(then: Behaviour, until: asyncio.Event) -> Behaviour:
    """Nothing until then."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        await until.wait()
        await then(writer)

    return behave


def _head(code: int, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {code} X", "Connection: close", *headers, "", ""]).encode()
