"""A gateway's endpoints behind the real HTTP front, in this process, on a free port of loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from kurir.serve import Server
from kurir.web.http.connection_limits import HttpFront, Limits

LIMITS = Limits(head_bytes=65_536, head_seconds=10.0, idle_seconds=75.0, connections=4_096, per_address=512)


_OPEN: list[Raw] = []
"""Connections that end with the server."""


@asynccontextmanager
async def served(
    app: Any, limits: Limits = LIMITS, *, grace: int = 1, listener: socket.socket | None = None
) -> AsyncIterator[int]:
    """Serves `app`, on `listener` where there is one already; gives the port. `grace`: seconds that a stop waits for
    connections to end.
    """
    listener = listener or socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    front = HttpFront(limits)
    config = uvicorn.Config(
        app,
        http=front.protocol(),
        loop="none",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        forwarded_allow_ips=list(limits.trusted),
        timeout_keep_alive=600,  # `HttpFront.sweep` ends idle connections; whatever waits for this one is seen
        timeout_graceful_shutdown=grace,
    )
    server = Server(front, config)
    work = asyncio.create_task(server.serve(sockets=[listener]))
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        while _OPEN:
            _OPEN.pop().close()
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await work


class Raw:
    """A connection on which a test says exactly what it wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, source: str = "127.0.0.1") -> Raw:
        """Connects, from any address of loopback."""
        raw = cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0)))
        _OPEN.append(raw)
        return raw

    async def say(self, data: bytes) -> None:
        """Sends bytes; what a closed connection does not take is lost."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def status(self, seconds: float = 10.0) -> int:
        """The status of the next answer, its body read; 0 when the connection is closed without one."""
        async with asyncio.timeout(seconds):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return 0
            for line in head.split(b"\r\n"):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    await self.reader.readexactly(int(value))
            return int(head.split(b" ", 2)[1])

    async def closed(self, seconds: float = 10.0) -> bool:
        """Whether the other side closes within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while await self.reader.read(65_536):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True

    def close(self) -> None:
        """Closes this side."""
        self.writer.close()
