"""A road to a server that can be cut, closed and made slow: a TCP proxy in a thread of its own.

In a thread, because those who build a site speak to its database before they let the event loop go on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Wire:
    """What is between the gateway and a server on this machine."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.made = 0
        self.delay = 0.0
        self.silent = False
        self.refusing = False
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._links: set[asyncio.Task[None]] = set()

    def open(self) -> int:
        """How many connections run through it now."""
        return len(self._links)

    def cut(self) -> None:
        """Breaks every connection that runs through it."""

        def work() -> None:
            for link in self._links:
                link.cancel()

        self._loop.call_soon_threadsafe(work)

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        self.made += 1
        to_server = None
        try:
            if self.refusing:
                return
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(from_client, to_server))
                both.create_task(self._pump(from_server, to_client))
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass
        finally:
            self._links.discard(task)
            for writer in (to_client, to_server):
                if writer is not None:
                    writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.delay:
                await asyncio.sleep(self.delay)
            while self.silent:
                await asyncio.sleep(0.05)
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError  # one side has ended: so does the other

    async def _listen(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        try:
            await server.serve_forever()
        finally:
            for link in list(self._links):
                link.cancel()
            await asyncio.gather(*self._links, return_exceptions=True)


@contextmanager
def wire_to(port: int) -> Iterator[Wire]:
    """A wire to a port of this machine."""
    wire = Wire(port)
    ready = threading.Event()
    listening = wire._loop.create_task(wire._listen(ready))

    def run() -> None:
        try:
            wire._loop.run_until_complete(listening)
        except asyncio.CancelledError:
            pass
        finally:
            wire._loop.close()

    thread = threading.Thread(target=run, name="wire", daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield wire
    finally:
        wire._loop.call_soon_threadsafe(listening.cancel)
        thread.join(10)
