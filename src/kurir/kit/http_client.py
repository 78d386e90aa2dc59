"""A lean HTTP/1.1 client for many small requests to one server that is trusted to be itself (TLS, by name).

It does what calls of an API need and nothing else: no redirects, cookies, proxies or compression, and it never repeats
a request. Each failure says whether anything of the request was handed to the connection. Strangers' URLs go through
`safe_fetch`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Mapping

import aiohappyeyeballs
import msgspec
from yarl import URL

from kurir.kit.http_connection import Answer, HttpConnection
from kurir.kit.name_resolution import LookUp, SystemNames

CONNECT_SECONDS = 5.0
"""Seconds for name look-up, connection and TLS together."""
IDLE_SECONDS = 15.0
"""Seconds for which an idle connection is kept. Servers and routers close idle ones too, and a request that meets
their close on its way is in doubt."""
_NAMES_SECONDS = 10.0
"""Seconds for which the addresses of the server's name are reused."""
_NAME_THREADS = 4
_NEXT_ADDRESS_SECONDS = 0.25
"""Seconds after which the next address is tried beside a silent one (RFC 8305)."""

_AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int] | tuple[str, int, int, int]]


class Failed(msgspec.Struct, frozen=True):
    """No complete answer. `sent`: something of the request was handed to the connection, so it may have arrived."""

    error: Exception
    sent: bool


class HttpClient:
    """Requests to the server of `url`, over at most `connections` connections.

    headers: sent with every request. largest: maximum bytes of an answer's body. tls: for https, `system_tls()` or the
    caller's own. look_up: replaces the system's name resolution.
    """

    def __init__(
        self,
        url: URL,
        *,
        headers: Mapping[str, str],
        connections: int,
        largest: int,
        tls: ssl.SSLContext | None = None,
        look_up: LookUp | None = None,
    ) -> None:
        self._host = (url.raw_host or "").removesuffix(".")
        self._port = url.port or 80
        self._tls = (tls or system_tls()) if url.scheme == "https" else None
        self._largest = largest
        lines = [f" HTTP/1.1\r\nHost: {url.host_port_subcomponent}", "Accept-Encoding: identity"]
        self._fixed = "\r\n".join([*lines, *(_line(name, value) for name, value in headers.items()), ""])
        self._names = SystemNames(_NAME_THREADS, look_up)
        self._naming = asyncio.Lock()
        self._addresses: list[str] = []
        self._named_at = 0.0
        self._room = connections
        self._connections: set[HttpConnection] = set()
        self._idle: list[HttpConnection] = []
        """Kept connections, the longest idle first; the one used last is used next."""
        self._waiting: deque[asyncio.Future[HttpConnection | None]] = deque()
        """Calls that wait for a connection, or for room to open one (None)."""
        self._limits: set[asyncio.Timeout] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, seconds: float
    ) -> Answer | Failed:
        """Makes one request and waits for its answer, `seconds` in all.

        target: path and query, encoded. body: b"" for none. A cancelled call closes its connection.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            request = self._request(method, target, headers, body)
            connection = self._kept() or await self._taken(deadline)
        except (OSError, ValueError) as error:
            return Failed(error, sent=False)
        try:
            return await connection.send(request, deadline)
        except (OSError, ValueError) as error:
            return Failed(error, sent=True)
        except asyncio.CancelledError:
            connection.abort()
            raise

    def close(self) -> None:
        """Closes all connections and ends all calls. Idempotent."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for limit in self._limits:
            limit.reschedule(asyncio.get_running_loop().time())
        for connection in list(self._connections):
            connection.abort()
        self._names.close()

    # -- requests ------------------------------------------------------------------------------------------------------

    def _request(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
        """Raises ValueError for what would change the meaning of the request."""
        if not target.isascii() or not target.isprintable() or " " in target:
            raise ValueError("the target of the request has invalid characters")
        lines = [f"{method} {target}{self._fixed}"]
        lines += [f"{_line(name, value)}\r\n" for name, value in headers.items()]
        lines.append(f"Content-Length: {len(body)}\r\n\r\n" if body or method != "GET" else "\r\n")
        return "".join(lines).encode() + body

    # -- connections ---------------------------------------------------------------------------------------------------

    def _kept(self) -> HttpConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable():
                return connection
            connection.abort()
        return None

    async def _taken(self, deadline: float) -> HttpConnection:
        """Waits for a kept connection or opens one. Raises OSError, ValueError, TimeoutError."""
        async with asyncio.timeout_at(deadline) as limit:
            self._limits.add(limit)
            try:
                if self._closed:
                    raise ConnectionAbortedError("the client is closed")
                while not self._room:
                    connection = await self._turn()
                    if connection is None:
                        break
                    if connection.usable():
                        return connection
                    connection.abort()
                else:
                    self._room -= 1
                limit.reschedule(min(deadline, asyncio.get_running_loop().time() + CONNECT_SECONDS))
                return await self._opened()
            finally:
                self._limits.discard(limit)

    async def _turn(self) -> HttpConnection | None:
        turn: asyncio.Future[HttpConnection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given in the same moment
                connection = turn.result()
                if connection is None:
                    self._make_room()
                elif connection.usable():
                    self._keep(connection)
                else:
                    connection.abort()
            raise

    async def _opened(self) -> HttpConnection:
        """Opens a connection in the room that the caller holds for it."""
        loop = asyncio.get_running_loop()
        try:
            addresses = [_address(one, self._port) for one in await self._resolved()]
            try:
                sock = await aiohappyeyeballs.start_connection(  # pyright: ignore[reportUnknownMemberType]
                    addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS
                )
            except (OSError, RuntimeError):
                self._addresses = []
                raise
            _, connection = await loop.create_connection(
                lambda: HttpConnection(loop, sock, largest=self._largest, answered=self._keep, ended=self._forget),
                sock=sock,
                ssl=self._tls,
                server_hostname=self._host if self._tls else None,
            )
        except RuntimeError as error:  # how uvloop reports some failures of connecting
            self._make_room()
            raise OSError(str(error)) from error
        except BaseException:
            self._make_room()
            raise
        if self._closed or not connection.usable():
            connection.abort()
            self._make_room()
            raise ConnectionResetError("the connection was closed at once")
        self._connections.add(connection)
        return connection

    async def _resolved(self) -> list[str]:
        """The addresses of the server's name; calls that need them at the same time share one look-up."""
        loop = asyncio.get_running_loop()
        async with self._naming:
            if not self._addresses or loop.time() - self._named_at > _NAMES_SECONDS:
                self._addresses = await self._names.resolve(self._host, self._port)
                self._named_at = loop.time()
            return self._addresses

    def _keep(self, connection: HttpConnection) -> None:
        """Hands a connection that may be used again to whoever waits longest, or keeps it."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = loop.call_later(IDLE_SECONDS, self._sweep_idle)

    def _forget(self, connection: HttpConnection) -> None:
        """Gives the room of an ended connection to whoever waits longest."""
        if connection in self._connections:  # else it ended while it was opened
            self._connections.remove(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._make_room()

    def _make_room(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._room += 1

    def _sweep_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep = None
        while self._idle and loop.time() - self._idle[0].idle_since >= IDLE_SECONDS:
            self._idle.pop(0).abort()
        if self._idle:
            self._sweep = loop.call_at(self._idle[0].idle_since + IDLE_SECONDS, self._sweep_idle)


def system_tls() -> ssl.SSLContext:
    """TLS that checks the server's name and its certificate against the system's authorities."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _address(text: str, port: int) -> _AddressInfo:
    if ":" in text:
        return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (text, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (text, port)


def _line(name: str, value: str) -> str:
    """A header field. Raises ValueError for control characters; it does not quote them, the value may be a secret."""
    line = f"{name}: {value}"
    if not line.isprintable() and any(character < " " or character == "\x7f" for character in line):
        raise ValueError("a header field has invalid characters")
    return line
