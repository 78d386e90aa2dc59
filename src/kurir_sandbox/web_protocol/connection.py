"""One WebSocket connection of a client: the Noise handshake, then stanzas in both directions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque

import structlog
from aiohttp import WSMsgType, web

from kurir_sandbox import http_faults
from kurir_sandbox.faults import Faults, Occasion

from . import codec
from .certificates import NoiseIdentity
from .linked_devices import Device
from .noise import Frames, Greeting, Handshake, Transport, frame
from .stanza import Node

log = structlog.get_logger(__name__)
# Every stanza, for debugging; through `logging` because a stanza is only rendered when the level is enabled.
trace = logging.getLogger(__name__)

_HANDSHAKE_TIMEOUT = 20.0
_SEND_TIMEOUT = 20.0
# A client that sees the socket close before it has handled the last stanza may never reconnect: seen in 6 of 33
# pairings with an immediate close, in 0 of 50 with this delay.
_FAREWELL = 2.0


class Connection:
    """A client on the line. `device` is set when it has logged in."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        identity: NoiseIdentity,
        faults: Faults,
        transport: asyncio.BaseTransport | None,
    ) -> None:
        self._socket = socket
        self._identity = identity
        self._faults = faults
        self._wire = transport
        self._dead = False
        self._frames = Frames()
        self._pending: deque[bytes] = deque()
        self._transport: Transport | None = None
        self._sending = asyncio.Lock()
        self._farewell: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[bool] | None = None
        self.device: Device | None = None

    async def handshake(self) -> Greeting:
        """Runs the handshake. Raises NoiseError, TimeoutError or ConnectionResetError (the client hung up)."""
        async with asyncio.timeout(_HANDSHAKE_TIMEOUT):
            hello = await self._frame()
            shake = Handshake(self._frames.header, self._identity.static, self._identity.chain)
            await self._socket.send_bytes(frame(shake.respond(hello)))
            greeting = shake.finish(await self._frame())
        self._transport = greeting.transport
        return greeting

    async def receive(self) -> Node | None:
        """The next stanza; None when the client hung up. Raises NoiseError for what is not sealed as it must be.

        Of a device that has logged in, what is sealed but no stanza is passed over: the line is sound, and what follows
        can be read. Anybody else's is a CodecError.
        """
        assert self._transport is not None
        while True:
            try:
                data = await self._frame()
            except ConnectionResetError:
                return None
            try:
                node = codec.decode(self._transport.open(data))
            except codec.CodecError as error:
                if self.device is None:
                    raise
                log.warning("stanza_unreadable", device=self._who(), reason=str(error))
                continue
            trace.debug("%s < %s", self._who(), node)
            if not self._silent():
                return node

    async def send(self, node: Node) -> None:
        """Sends one stanza. A broken or stuck connection is closed, which `receive` reports."""
        assert self._transport is not None
        if self._silent():
            return
        trace.debug("%s > %s", self._who(), node)
        async with self._sending:
            if self._socket.closed:
                return
            try:
                async with asyncio.timeout(_SEND_TIMEOUT):
                    await self._socket.send_bytes(frame(self._transport.seal(codec.encode(node))))
            except (ConnectionError, TimeoutError) as error:
                log.info("connection_lost", device=self._who(), reason=str(error))
                self._close()

    async def finish(self, node: Node) -> None:
        """Sends a final stanza (a failure or stream error) and closes the connection a little later."""
        await self.send(node)
        self._farewell = asyncio.get_running_loop().call_later(_FAREWELL, self._close)

    def cut(self) -> None:
        """Aborts the connection."""
        http_faults.abort(self._wire)

    async def hang_up(self) -> None:
        """Closes the connection at once."""
        if self._farewell:
            self._farewell.cancel()
        with contextlib.suppress(ConnectionError):
            await self._socket.close()

    def _silent(self) -> bool:
        """Whether a fault killed the connection: open, but nothing is sent or received any more."""
        if not self._dead and self.device is not None:
            self._dead = self._faults.strike(Occasion("linked_device", self.device.phone), "silence") is not None
        return self._dead

    def _close(self) -> None:
        self._closing = asyncio.ensure_future(self._socket.close())

    def _who(self) -> str:
        return str(self.device.lid) if self.device else "unknown device"

    async def _frame(self) -> bytes:
        while not self._pending:
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                raise ConnectionResetError("the client hung up")
            self._pending.extend(self._frames.feed(message.data))
        return self._pending.popleft()
