"""Calls to the Graph API whose body is a form or a file, by aiohttp, which streams such bodies.

A trace on the request shows whether its first byte was handed to the socket: aiohttp reports "could not connect" and
"no answer" as one error.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import aiohttp
from yarl import URL

from kurir.kit.http_client import CONNECT_SECONDS, Failed
from kurir.kit.http_connection import Answer


class GraphUploads:
    """Uploads to the server of `url`; the parameters are those of `HttpClient`."""

    def __init__(
        self, url: URL, *, headers: Mapping[str, str], connections: int, largest: int, tls: ssl.SSLContext | None
    ) -> None:
        self._origin = str(url.origin())
        self._largest = largest
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=tls or True),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[_trace()],
            headers=headers,
        )

    async def request(
        self, method: str, target: str, headers: Mapping[str, str], data: Any, seconds: float
    ) -> Answer | Failed:
        """Makes one request and waits for its answer, `seconds` in all.

        target: path and query, encoded. data: bytes, a file or a multipart form.
        """
        progress = SimpleNamespace(left=False)
        try:
            async with self._session.request(
                method,
                URL(self._origin + target, encoded=True),
                data=data,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS),
                allow_redirects=False,
                trace_request_ctx=progress,
            ) as response:
                body = await self._read(response)
                return Answer(response.status, body, response.headers.get("Retry-After", "").strip())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Failed(error, sent=progress.left)

    async def close(self) -> None:
        """Closes all connections; calls in progress end. Idempotent."""
        await self._session.close()

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        raw = bytearray()
        async for chunk in response.content.iter_any():
            raw += chunk
            if len(raw) > self._largest:
                raise ValueError("the answer is too large")
        return bytes(raw)


def _trace() -> aiohttp.TraceConfig:
    async def leaving(_session: object, context: Any, _parameters: object) -> None:
        context.trace_request_ctx.left = True

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(leaving)
    return trace
