"""Limits on every HTTP connection before a request reaches its handler: size and time of heads, numbers of connections,
one Host. uvicorn has none of these limits; this is a thin layer over its httptools protocol.

Written for uvicorn 0.54 (pinned by the lock file): the methods of `HttpToolsProtocol` that are overridden here are
called by httptools and by uvicorn's request cycle. uvicorn has only the newest cycle; this module also has the one in
progress, before others in the queue. uvicorn's timer of idle connections is not used: `sweep` ends those.

After an answer to an incomplete request, by this layer or a handler, the rest is read for a while before the connection
is closed: closing it with unread bytes would make the kernel reset it, and the answer would be lost.

More than 300 lines: one protocol class that enforces all limits before a request exists.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httptools
import msgspec
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from kurir.accounts.limits import source_of
from kurir.kit.log_summary import LogSummary
from kurir.reasons import NOTHING, Reason, sentence
from kurir.reasons import connections as reasons
from kurir.web.http.languages import before_account
from kurir.web.http.refusals import refusal_body
from kurir.web.http.whole_answers import EXTENSIONS, Cycle

_HEAD, _WORK, _IDLE, _CLOSING = range(4)
"""Phases of a connection: receiving a head · handling the request · between requests · refused."""
_LINGER, _LINGER_MOST, _LINGER_BYTES = 1.5, 20.0, 64_000_000
"""Bounds of reading on a refused connection: seconds without a byte, seconds in all, and discarded bytes. Many clients
write their whole request before they read the answer."""
_LINGERING, _LINGERING_OF_ONE = 256, 64
"""Refused connections that may linger at a time, in all and of one source; further ones are closed at once."""
_FIELDS = 256
"""Maximum header fields of one request."""
_PIPELINED = 32
"""Maximum requests that a client may send ahead of their answers."""
_CROWDED = 0.75
"""Share of the connections from which on idle ones are closed after `_CROWDED_IDLE` seconds."""
_CROWDED_IDLE = 5.0
_UNREAD = 30.0
"""Seconds in which some of an answer must be read: otherwise a client could keep its connection for ever."""
_AT_THE_END = 3.0
"""Seconds for the same while the server stops, and for the rest of requests that are coming in."""

log = structlog.get_logger(__name__)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of connections; the settings of these names say why. `trusted`: proxies, exempt from `per_address`."""

    head_bytes: int
    head_seconds: float
    idle_seconds: float
    connections: int
    per_address: int
    trusted: Sequence[str] = ()


class HttpFront:
    """All connections of one server. Call `sweep` about once a second, also after `stop`."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.stopped_at: float | None = None
        self.connections: set[Connection] = set()
        self._by_source: Counter[str] = Counter()
        self._lingering: Counter[str] = Counter()
        self._refusals = LogSummary(self._say)
        self._everybody = "*" in limits.trusted
        self._trusted = [network for text in limits.trusted if (network := _network(text)) is not None]

    def stop(self, now: float) -> None:
        """The server takes no more connections and waits for the end of these; `now` as for `sweep`."""
        self.stopped_at = now

    def protocol(self) -> type[Connection]:
        """The protocol class for uvicorn's `http` option."""
        return type("Connection", (Connection,), {"front": self})

    def entered(self, connection: Connection) -> Reason:
        """Counts a new connection; returns why it has to be refused, `NOTHING` when it may stay."""
        self.connections.add(connection)
        self._by_source[connection.source] += 1
        if len(self.connections) - self._lingering.total() > self.limits.connections:
            return reasons.CROWDED()
        if self._by_source[connection.source] > self.limits.per_address and not self.trusts(connection.source):
            return reasons.CROWDED_ADDRESS()
        return NOTHING

    def left(self, connection: Connection) -> None:
        """Counts its end."""
        self.connections.discard(connection)
        self._by_source[connection.source] -= 1
        if not self._by_source[connection.source]:
            del self._by_source[connection.source]
        if connection.lingers:
            self._lingering[connection.source] -= 1
            if not self._lingering[connection.source]:
                del self._lingering[connection.source]

    def may_linger(self, source: str) -> bool:
        """Whether one more refused connection may stay for a moment; it is counted then."""
        of_one = _LINGERING if self.trusts(source) else _LINGERING_OF_ONE
        if self._lingering.total() >= _LINGERING or self._lingering[source] >= of_one:
            return False
        self._lingering[source] += 1
        return True

    def refused(self, why: str) -> None:
        """Counts a refusal for the log."""
        self._refusals.note(why)

    def sweep(self, now: float) -> None:
        """Ends connections that take too long. `now`: the event loop's time."""
        crowded = len(self.connections) > self.limits.connections * _CROWDED
        idle = min(_CROWDED_IDLE, self.limits.idle_seconds) if crowded else self.limits.idle_seconds
        for connection in list(self.connections):
            connection.look(now, idle)

    def _say(self, counts: dict[str, int]) -> None:
        log.warning("http_refusals", connections=len(self.connections), reasons=counts)

    def trusts(self, address: str) -> bool:
        """Whether a proxy at this address is trusted."""
        if self._everybody:
            return True
        try:
            found = ipaddress.ip_address(address.partition("/")[0])
        except ValueError:
            return False
        return any(found in network for network in self._trusted)


class _RefusedError(Exception):
    """Ends the parsing of a head; `Connection` has the answer."""


class Connection(HttpToolsProtocol):
    """One connection. `source` is what its address counts as, `lingers` whether it is refused but still open.

    Request cycles write to it as if it were their transport (`is_closing`, `write`, `close`).
    """

    front: HttpFront
    source = ""
    lingers = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        self.source = address if self.front.trusts(address) else source_of(address)
        self._phase = _HEAD
        self._since = self._left_at = self.loop.time()
        self._written = self._left = 0
        self._unread = self._chunk = 0
        self._complete = True
        self._at_work: RequestResponseCycle | None = None
        self.url = b""  # until a head begins
        self._answer: tuple[int, Reason] = (400, reasons.NO_HTTP())
        if why := self.front.entered(self):
            self._refuse(503, why)

    def connection_lost(self, exc: Exception | None) -> None:
        self.front.left(self)
        super().connection_lost(exc)
        self._abandon()
        # they refer to this connection in turn
        self.cycle = self._at_work = None  # pyright: ignore[reportAttributeAccessIssue]

    def data_received(self, data: bytes) -> None:
        if self._phase is _CLOSING:
            self._heard = self.loop.time()
            self._thrown_away += len(data)
            if self._thrown_away > _LINGER_BYTES:
                self.transport.abort()
            return
        assert self.parser is not None
        self._chunk = len(data)
        self._unread += self._chunk
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # there is nothing to upgrade to: answered like any request
        except httptools.HttpParserError:
            self._refuse(*self._answer)
            return
        if self._complete and self._phase is not _HEAD:
            self._unread = 0
        elif self._unread > self.front.limits.head_bytes:
            # also a chunk's extension or the fields after a body: whatever is neither body nor the end of a request
            self._refuse(431, self._too_large())

    def on_message_begin(self) -> None:
        self._phase = _HEAD
        self._since = self.loop.time()
        self._complete = False
        self._unread = self._unread or 1  # it may have begun right behind another one, which is read
        super().on_message_begin()
        self.scope["extensions"] = EXTENSIONS

    def on_headers_complete(self) -> None:
        if fault := self._fault():
            self._answer = fault
            raise _RefusedError
        self._phase = _WORK
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self.cycle.__class__ = Cycle  # uvicorn makes one of its own
            self.cycle.transport = self  # pyright: ignore[reportAttributeAccessIssue]

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._complete = True
        self._unread = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._at_work is not None:
            self._at_work.body = bytearray()  # unread bytes are dropped; the connection may live for long
            self._at_work = None
        # uvicorn's own, but for its timer of idle connections, which would keep this one in memory after its end
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
        self._since = self.loop.time()
        if self._phase is _WORK and not self.pipeline:
            self._phase = _IDLE

    def look(self, now: float, idle_seconds: float) -> None:
        """Ends the connection if it has been too long in its phase, or its client reads nothing of an answer."""
        waited = now - self._since
        limits = self.front.limits
        if self._is_unread(now):
            self.front.refused("an answer was not read")
            self.transport.abort()
        elif self._phase is _CLOSING:
            if now - self._heard > _LINGER or waited > _LINGER_MOST:
                self.transport.abort()
        elif self._has_to_stop(now):
            self._refuse(503, reasons.STOPPING())
        elif self._phase is _HEAD:
            if waited > limits.head_seconds and self._at_work is None:
                if self._unread:
                    self._refuse(408, reasons.HEAD_TOO_SLOW(seconds=limits.head_seconds))
                else:
                    self.front.refused("a connection without a request")
                    self.transport.close()
        elif self._phase is _IDLE and waited > (idle_seconds if self._complete else limits.head_seconds):
            self.transport.close()

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._phase is _CLOSING or self.transport.is_closing()

    def write(self, data: bytes) -> None:
        """Writes a piece of an answer, or drops it once writing has been shut down."""
        if not self.is_closing():
            self._written += len(data)
            self.transport.write(data)

    def close(self) -> None:
        """Closes the connection after its last answer, gently when more of the request is to come."""
        if self._phase is _CLOSING:
            return  # it is closing already
        if self._complete and not self.pipeline:
            self.transport.close()
        else:
            self._linger()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _is_unread(self, now: float) -> bool:
        """Whether written bytes wait for too long and none of them is sent."""
        unsent = self.transport.get_write_buffer_size()
        left = self._written - unsent
        if not unsent or left > self._left:
            self._left, self._left_at = left, now
        return now - self._left_at > (_UNREAD if self.front.stopped_at is None else _AT_THE_END)

    def _has_to_stop(self, now: float) -> bool:
        """Whether the server stops and the request has not come in whole; one that has is answered first."""
        stopped_at = self.front.stopped_at
        if stopped_at is None or self._complete or (self._phase is _HEAD and self._at_work is not None):
            return False
        return now - stopped_at > _AT_THE_END

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._at_work = cycle
        super()._start_asgi_task(cycle, app)

    def _fault(self) -> tuple[int, Reason] | None:
        """What is wrong with the received head."""
        limit = self.front.limits.head_bytes
        if max(self._unread, self._chunk) > limit:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > limit:
                return 431, self._too_large()
        if len(self.headers) > _FIELDS:
            return 431, reasons.MANY_FIELDS(most=_FIELDS)
        if len(self.pipeline) >= _PIPELINED:
            return 400, reasons.MANY_AHEAD(most=_PIPELINED)
        hosts = 0
        for name, _ in self.headers:
            if name == b"host":
                hosts += 1
        if hosts > 1 or (not hosts and _version(self.parser) != "1.0"):
            return 400, reasons.ONE_HOST()
        return None

    def _too_large(self) -> Reason:
        return reasons.HEAD_TOO_LARGE(limit=self.front.limits.head_bytes)

    def _refuse(self, status: int, why: Reason) -> None:
        """Answers and closes, with time for the client to read the answer."""
        self.front.refused(sentence(why, "en"))
        if self._at_work is None or not self._at_work.response_started:
            body = refusal_body(status, why, self._language())
            self.write(_refusal(status, body, self.server_state.default_headers))
        self._abandon()
        self._linger()

    def _language(self) -> str:
        """What the head asks for, as far as it was read."""
        asked = next((value for name, value in self.headers or () if name == b"accept-language"), b"")
        return before_account((self.url or b"").decode("latin-1"), asked.decode("latin-1"))

    def _abandon(self) -> None:
        """Stops answering: disconnects the request in progress, and drops those sent ahead."""
        self.pipeline.clear()
        if self._at_work is not None:
            self._at_work.disconnected = True
            self._at_work.message_event.set()
            self._at_work.body = bytearray()
        if self.cycle is not None:  # pyright: ignore[reportUnnecessaryComparison] - None before the first request
            self.cycle.body = bytearray()

    def _linger(self) -> None:
        """Shuts down writing, and reads and discards until the client has closed, within bounds."""
        self._phase = _CLOSING
        self._since = self._heard = self.loop.time()
        self._thrown_away = 0
        self.pipeline.clear()  # requests sent ahead are dropped: they could not be answered
        self.lingers = self.front.may_linger(self.source)
        if not self.lingers or not self.transport.can_write_eof():
            self.transport.close()
            return
        self.flow.resume_reading()
        try:
            self.transport.write_eof()
        except OSError:  # the client has reset the connection, which is not reported yet
            self.transport.abort()


def _refusal(status: int, content: dict[str, str], headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    body = json.dumps(content).encode()
    fields: list[tuple[bytes, Any]] = [
        *headers,
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    if status == 503:
        fields.append((b"retry-after", b"2"))
    return STATUS_LINE[status] + b"".join(name + b": " + value + b"\r\n" for name, value in fields) + b"\r\n" + body


def _version(parser: httptools.HttpRequestParser | None) -> str:
    assert parser is not None
    return parser.get_http_version()


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
