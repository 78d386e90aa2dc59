"""An HTTP CONNECT proxy on loopback that leads EVERY host to the sandbox's TLS port, so nothing can leave by
accident.
"""

from __future__ import annotations

import asyncio

import structlog

from kurir_sandbox import http_faults

log = structlog.get_logger(__name__)

_HEAD_TIMEOUT = 10.0
_CHUNK = 1 << 16


class ConnectProxy:
    """Listens on `host`; start it with the TLS port that all tunnels end at."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._server: asyncio.Server | None = None
        self._tunnels: set[asyncio.Task[None]] = set()
        self._target = 0

    async def start(self, port: int, target: int) -> int:
        """Listens on `port` (0: any) and returns the real one. Raises OSError when the port is taken."""
        self._target = target
        self._server = await asyncio.start_server(self._accept, self._host, port)
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Closes the listener and every tunnel."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._tunnels):
            task.cancel()
        await asyncio.gather(*self._tunnels, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tunnels.add(task)
        try:
            await self._tunnel(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError) as error:
            log.debug("tunnel_ended", reason=str(error))
        except asyncio.CancelledError:
            pass  # only `stop` cancels; the stream protocol would report a cancelled handler as an error
        finally:
            self._tunnels.discard(task)
            writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_TIMEOUT)
        request = head.split(b"\r\n", 1)[0].decode("latin-1")
        if not request.startswith("CONNECT "):
            writer.write(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: CONNECT\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        log.debug("tunnel_opened", request=request[:200])
        inner_reader, inner_writer = await asyncio.open_connection(self._host, self._target)
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        finally:
            inner_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        http_faults.abort(writer.transport)  # a reset on one side is a reset on the other
    else:
        writer.close()
