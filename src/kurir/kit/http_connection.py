"""One kept HTTP/1.1 connection: it writes a request in one piece and reads the answer to it.

The parser is httptools (llhttp), strict as it comes. What it leaves open is decided here: how large a head and a body
may be, what ends an answer without a length, and after which answers the connection may be used again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

LARGEST_HEAD = 65_536
"""Maximum bytes of all header fields of an answer, its interim answers and its trailer included."""
_KEPT_AFTER = 65_536
"""Bytes of a request after which its connection is not used again: an answer may come before the request was written,
and TLS transports do not say how much of it waits."""
_FIELD = 32
"""Bytes counted for a field beside its name and value, so that empty ones are bounded too."""
_ESTABLISHED = 1
"""The state of an open connection in the first byte of Linux's `tcp_info`."""
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)


class Answer(msgspec.Struct, frozen=True):
    """A complete answer: its status, its body, its Retry-After header ("" if none)."""

    status: int
    body: bytes
    retry_after: str = ""


class HttpConnection(asyncio.Protocol):
    """A connection for one request at a time; a request given to `send` may have reached the other side, wholly or in
    part.

    socket: what the transport reads from. largest: maximum bytes of a body. answered: called when the connection may
    be used again. ended: called once, when it may not be used any more.
    """

    __slots__ = (
        "_answer",
        "_answered",
        "_body",
        "_ended",
        "_failure",
        "_framed",
        "_head",
        "_in_body",
        "_keep",
        "_largest",
        "_loop",
        "_open",
        "_parser",
        "_read",
        "_retry_after",
        "_silent",
        "_small",
        "_socket",
        "_timer",
        "_transport",
        "idle_since",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        *,
        largest: int,
        answered: Callable[[HttpConnection], None],
        ended: Callable[[HttpConnection], None],
    ) -> None:
        self.idle_since = 0.0
        self._loop = loop
        self._socket = sock
        self._largest = largest
        self._answered = answered
        self._ended = ended
        self._open = False
        self._small = True
        self._transport: asyncio.Transport
        self._parser: HttpResponseParser | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._clear()

    # -- what its owner does -------------------------------------------------------------------------------------------

    def usable(self) -> bool:
        """Whether a request may be written: False also when the other side has closed and the loop has not seen it.

        The kernel is asked by `getsockopt`, which keeps the interpreter lock, unlike `poll` and `recv`.
        """
        if not self._open or self._transport.is_closing():
            return False
        if _TCP_INFO is None:
            return True
        try:
            return self._socket.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 1)[0] == _ESTABLISHED
        except OSError:
            return False

    def send(self, request: bytes, deadline: float) -> asyncio.Future[Answer]:
        """Writes a request; `deadline` in the loop's time.

        The future raises TimeoutError, OSError when the connection ends early, ValueError when the answer is not HTTP
        or too large. Whoever cancels it has to call `abort`.
        """
        self._clear()
        self._small = len(request) <= _KEPT_AFTER
        self._answer = answer = self._loop.create_future()
        self._timer = self._loop.call_at(deadline, self._expire)
        self._transport.write(request)
        return answer

    def abort(self, error: Exception | None = None) -> None:
        """Closes the connection at once; a request under way fails with `error`. Idempotent."""
        answer, self._answer = self._answer, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._open:
            self._open = False
            self._parser = None
            self._transport.abort()
            self._ended(self)
        if answer is not None and not answer.done():
            answer.set_exception(error or ConnectionAbortedError("the connection was closed"))

    # -- what the transport calls --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._parser = HttpResponseParser(self)
        self._open = True

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._parser is None:
            self.abort()  # nothing was asked
            return
        before = self._head + len(self._body)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._keep = False
            if self._read is None:
                self.abort(self._failure or ValueError(f"the answer is not HTTP: {error}"))
                return
        if self._read is not None:
            self._settle(self._read)
        elif self._failure is not None:
            self.abort(self._failure)
        else:  # a field or a chunk's head without end comes to none of the callbacks below
            self._silent = self._silent + len(data) if self._head + len(self._body) == before else 0
            if self._silent > LARGEST_HEAD:
                self.abort(ValueError("the head of the answer is too large"))

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None and self._answer is not None and self._in_body and not self._framed:
            self._keep = False
            self._settle(Answer(self._status(), bytes(self._body), self._retry_after))
        self.abort(exc if isinstance(exc, OSError) else ConnectionResetError("the connection was closed too early"))

    # -- what the parser calls -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._read is not None:
            self._keep = False  # something follows the answer that nobody asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        length = len(name)
        self._head += length + len(value) + _FIELD
        if self._head > LARGEST_HEAD:
            self._failure = self._failure or ValueError("the head of the answer is too large")
        elif length == 14 and name.lower() == b"content-length":
            self._framed = True
        elif length == 17 and name.lower() == b"transfer-encoding":
            self._framed = self._framed or value.lower().rstrip().endswith(b"chunked")
        elif length == 11 and not self._retry_after and name.lower() == b"retry-after":
            self._retry_after = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        self._in_body = self._status() >= 200

    def on_body(self, body: bytes) -> None:
        if self._failure is not None:
            return
        self._body += body
        if len(self._body) > self._largest:
            self._failure = ValueError("the answer is too large")

    def on_message_complete(self) -> None:
        if self._read is not None or self._failure is not None or self._parser is None:
            return
        status = self._status()
        if status == 101:
            self._failure = ValueError("the answer changes the protocol")
        elif status < 200:  # an interim answer: the final one follows
            self._framed, self._retry_after = False, ""
        else:
            self._keep = self._parser.should_keep_alive()  # the parser forgets this with the message
            self._read = Answer(status, bytes(self._body), self._retry_after)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _clear(self) -> None:
        self._body = bytearray()
        self._failure: ValueError | None = None
        self._framed = False
        self._head = 0
        self._in_body = False
        self._keep = False
        self._read: Answer | None = None
        self._retry_after = ""
        self._silent = 0

    def _status(self) -> int:
        return self._parser.get_status_code() if self._parser is not None else 0

    def _settle(self, read: Answer) -> None:
        answer, self._answer = self._answer, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._keep and self._small and not self._transport.get_write_buffer_size():
            self._answered(self)
        else:
            self.abort()
        if answer is not None and not answer.done():
            answer.set_result(read)

    def _expire(self) -> None:
        self.abort(TimeoutError("no complete answer in time"))
