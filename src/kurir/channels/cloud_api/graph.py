"""One call to the Graph API, with a record of how far the request got.

The gateway may repeat a send only when it knows that the first attempt did not leave. Client libraries report "could
not connect" and "no answer" as one error; here a trace on the request shows whether its first byte was handed to the
socket: before that nothing left (`NotSent`), after that only a complete answer settles it (`GraphResponse`, else
`NoAnswer`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
import structlog

from kurir.channels.cloud_api.lenient_json import decoded
from kurir.kit.connection_failures import connection_failure
from kurir.kit.json_values import JsonValue
from kurir.kit.log_limit import LogLimit
from kurir.reasons import Reason
from kurir.reasons.messages import CHANNEL_NOT_STARTED, META_TIMED_OUT, META_UNREACHABLE

_LARGEST_ANSWER = 8_000_000
_CONNECTIONS = 256
_CONNECT_SECONDS = 5.0

_LOGGED = LogLimit()

log = structlog.get_logger(__name__)


class GraphResponse(msgspec.Struct, frozen=True):
    """A complete answer; `body` is its JSON object, None when it was none; `retry_after` in seconds.

    An invalid character spoils only the text that contains it: an id beside it still proves that Meta accepted the
    message.
    """

    status: int
    body: dict[str, Any] | None
    retry_after: float | None = None

    @property
    def error(self) -> dict[str, Any] | None:
        """The Graph error object, or None."""
        error: JsonValue = self.body.get("error") if self.body else None
        return error if isinstance(error, dict) else None


class NotSent(msgspec.Struct, frozen=True):
    """The request never left: no address, no connection, no TLS, or no free connection in time."""

    reason: Reason


class NoAnswer(msgspec.Struct, frozen=True):
    """The request was sent, wholly or in part, and no complete answer was received."""

    reason: Reason


Call = GraphResponse | NotSent | NoAnswer


class Graph:
    """The Graph API at `base_url` (with or without a version); `timeout` in seconds for one whole call."""

    def __init__(self, base_url: str, timeout: float) -> None:
        self._base = base_url.rstrip("/")
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Opens the connection pool. Idempotent."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[_trace()],
                headers={"User-Agent": "kurir", "Accept": "application/json"},
            )

    async def close(self) -> None:
        """Closes all connections. Idempotent."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(
        self,
        method: str,
        path: str,
        token: str,
        *,
        json: Any = None,
        data: Any = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        scheme: str = "Bearer",
        seconds: float | None = None,
    ) -> Call:
        """Makes one call and never raises for failures of the network or the other side.

        path: relative to the base, no leading slash. json, or data (bytes or a multipart form): the body. scheme:
        `Bearer`, or `OAuth` for upload sessions. seconds: a timeout instead of the default one.
        """
        if self._session is None:
            return NotSent(CHANNEL_NOT_STARTED())
        progress = SimpleNamespace(left=False)
        if json is not None:
            data = msgspec.json.encode(json)
            headers = {"Content-Type": "application/json", **(headers or {})}
        try:
            async with self._session.request(
                method,
                f"{self._base}/{path}",
                data=data,
                params=query,
                headers={"Authorization": f"{scheme} {token}", **(headers or {})},
                timeout=aiohttp.ClientTimeout(total=seconds or self._timeout, sock_connect=_CONNECT_SECONDS),
                allow_redirects=False,
                trace_request_ctx=progress,
            ) as response:
                raw = await _read(response)
                return GraphResponse(response.status, _object(raw), _retry_after(response))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            reason = _reason(error)
            if _LOGGED.is_due(type(error)):
                log.warning("graph_call_failed", sent=progress.left, error=f"{type(error).__name__}: {error}")
            return NoAnswer(reason) if progress.left else NotSent(reason)


def _trace() -> aiohttp.TraceConfig:
    async def leaving(_session: object, context: Any, _parameters: object) -> None:
        context.trace_request_ctx.left = True

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(leaving)
    return trace


async def _read(response: aiohttp.ClientResponse) -> bytes:
    raw = bytearray()
    async for chunk in response.content.iter_any():
        raw += chunk
        if len(raw) > _LARGEST_ANSWER:
            raise ValueError("the answer is too large")
    return bytes(raw)


def _object(raw: bytes) -> dict[str, Any] | None:
    value = decoded(raw)
    return value if isinstance(value, dict) else None


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 8 else None


def _reason(error: Exception) -> Reason:
    if isinstance(error, TimeoutError):
        return META_TIMED_OUT()
    return META_UNREACHABLE(error=connection_failure(error))
