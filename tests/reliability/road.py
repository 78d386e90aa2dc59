"""A road to a server that can be closed: a TCP relay. While it is closed nobody listens and nothing gets through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Road:
    """What lies between the gateway and a server on this machine."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._travelers: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Lets connections through, on the same port each time."""
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Breaks all connections and takes no new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for traveler in self._travelers:
            traveler.cancel()
        await asyncio.gather(*self._travelers, return_exceptions=True)

    async def _forward(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._travelers.add(task)
        to_server = None
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(from_client, to_server))
                both.create_task(_pump(from_server, to_client))
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass  # only `close` cancels; a canceled handler would be reported as an error
        finally:
            self._travelers.discard(task)
            for writer in (to_client, to_server):
                if writer is not None:
                    writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError  # one side has ended: so does the other


@asynccontextmanager
async def road_to(port: int) -> AsyncIterator[Road]:
    """An open road to a port of this machine."""
    road = Road(port)
    await road.open()
    try:
        yield road
    finally:
        await road.close()
