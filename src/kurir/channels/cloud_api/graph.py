"""One call to the Graph API, with a record of how far the request got.

The gateway may repeat a send only when it knows that the first attempt did not leave. Before a byte of the request was
handed to a connection nothing left (`NotSent`); after that only a complete answer settles it (`GraphResponse`, else
`NoAnswer`). Calls with JSON or without a body go over the lean `kit/http_client`, uploads over aiohttp
(`graph_uploads`); decision 0026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from yarl import URL

from kurir.channels.cloud_api.graph_uploads import GraphUploads
from kurir.channels.cloud_api.lenient_json import decoded
from kurir.kit.connection_failures import connection_failure
from kurir.kit.http_client import Failed, HttpClient, system_tls
from kurir.kit.json_values import JsonValue
from kurir.kit.log_limit import LogLimit
from kurir.reasons import Reason
from kurir.reasons.messages import CHANNEL_NOT_STARTED, META_TIMED_OUT, META_UNREACHABLE

_LARGEST_ANSWER = 8_000_000
_CONNECTIONS = 256
_HEADERS = {"User-Agent": "kurir", "Accept": "application/json"}
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_/-]+")

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
        self._base = URL(base_url.rstrip("/"))
        self._prefix = self._base.raw_path.rstrip("/")
        self._timeout = timeout
        self._http: HttpClient | None = None
        self._uploads: GraphUploads | None = None

    async def start(self) -> None:
        """Opens the connection pools. Idempotent."""
        if self._http is None:
            tls = system_tls() if self._base.scheme == "https" else None
            self._http = HttpClient(
                self._base, headers=_HEADERS, connections=_CONNECTIONS, largest=_LARGEST_ANSWER, tls=tls
            )
            self._uploads = GraphUploads(
                self._base, headers=_HEADERS, connections=_CONNECTIONS, largest=_LARGEST_ANSWER, tls=tls
            )

    async def close(self) -> None:
        """Closes all connections; calls in progress end. Idempotent."""
        http, self._http = self._http, None
        uploads, self._uploads = self._uploads, None
        if http is not None:
            http.close()
        if uploads is not None:
            await uploads.close()

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

        path: relative to the base, no leading slash. json, or data (bytes, a file or a multipart form): the body.
        scheme: `Bearer`, or `OAuth` for upload sessions. seconds: a timeout instead of the default one.
        """
        if self._http is None or self._uploads is None:
            return NotSent(CHANNEL_NOT_STARTED())
        seconds = seconds or self._timeout
        fields = {"Authorization": f"{scheme} {token}", **(headers or {})}
        try:
            target = self._target(path, query)
        except ValueError as error:  # no path of a URL
            return _failure(Failed(error, sent=False))
        if data is not None:
            answer = await self._uploads.request(method, target, fields, data, seconds)
        else:
            body = b""
            if json is not None:
                fields.setdefault("Content-Type", "application/json")
                body = msgspec.json.encode(json)
            answer = await self._http.request(method, target, fields, body, seconds)
        if isinstance(answer, Failed):
            return _failure(answer)
        return GraphResponse(answer.status, _object(answer.body), _retry_after(answer.retry_after))

    def _target(self, path: str, query: Mapping[str, str] | None) -> str:
        """The path and query as they stand in a request, encoded."""
        if not query and _PLAIN_PATH.fullmatch(path):
            return f"{self._prefix}/{path}"
        return URL(f"{self._base}/{path}").extend_query(query or {}).raw_path_qs


def _object(raw: bytes) -> dict[str, Any] | None:
    value = decoded(raw)
    return value if isinstance(value, dict) else None


def _retry_after(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 8 else None


def _failure(failed: Failed) -> NotSent | NoAnswer:
    error = failed.error
    if _LOGGED.is_due(type(error)):
        log.warning("graph_call_failed", sent=failed.sent, error=f"{type(error).__name__}: {error}")
    timed_out = isinstance(error, TimeoutError)
    reason = META_TIMED_OUT() if timed_out else META_UNREACHABLE(error=connection_failure(error))
    return NoAnswer(reason) if failed.sent else NotSent(reason)
