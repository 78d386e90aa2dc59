"""Fetches URLs of strangers safely: protects the internal network from server-side request forgery.

A caller's URL is fetched from inside the operator's network, so it is treated as hostile: the rules of `url_rules`
apply to the URL, to every address its host resolves to, and again to each redirect. The host is resolved once per
request and the connection goes to the addresses that were checked (no rebinding); TLS verifies the original name. No
proxy, cookie or compression; time, size and speed are bounded while the bytes stream to a file.

Webhook receivers are strangers too: `post` sends to them under the same rules, without following redirects.

Accounts take turns (`kit/fair_sharing`) for connections, for connections to one host, and for name look-ups, so that
slow servers and names of one account delay no other account.

More than 300 lines: one request from its checked address to its bounded body, which reads best in one piece.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import aiohttp
import msgspec
from yarl import URL

from kurir.kit.disk_reserve import PIECE, DiskReserve
from kurir.kit.fair_sharing import Turns
from kurir.kit.name_resolution import CheckedResolver, LookUp, Resolve, SystemNames, account_of_task
from kurir.kit.url_rules import Allowed, UrlRefused, check_url
from kurir.reasons import Code, Reason, ReasonedError
from kurir.reasons import media as reasons
from kurir.settings import Settings

CONNECT_TIMEOUT = 5.0
STALL_TIMEOUT = 10.0
LEAST_RATE = 10_000
"""Bytes per second a server must keep up after `GRACE` seconds."""
GRACE = 5.0
_ANSWER_TIMEOUT = 5.0
"""Seconds to read the body of an answer to a POST; the status is known by then, the body is only shown to people."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429})
_UNKNOWN_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})

_FAILURES: tuple[tuple[type[Exception], Code, bool], ...] = (
    (TimeoutError, reasons.TIMED_OUT, False),
    (aiohttp.ClientConnectorDNSError, reasons.HOST_NOT_LOOKED_UP, False),
    (aiohttp.ClientConnectorCertificateError, reasons.CERTIFICATE, True),
    (aiohttp.ClientConnectorError, reasons.UNREACHABLE, False),
    (aiohttp.ClientPayloadError, reasons.CUT_SHORT, False),
    (aiohttp.InvalidURL, reasons.URL_INVALID, True),
)
"""Maps a failed request to a code and whether the failure is permanent; the first matching class applies."""


class FetchFailed(ReasonedError):  # noqa: N818 - what the other side did, not a mistake
    """The URL could not be fetched; `permanent`: a retry will not help."""

    def __init__(self, reason: Reason, *, permanent: bool) -> None:
        super().__init__(reason)
        self.permanent = permanent


class TooLarge(ReasonedError):  # noqa: N818 - what the other side did, not a mistake
    """The answer is larger than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(reasons.TOO_LARGE(most=limit))
        self.limit = limit


class Fetched(msgspec.Struct, frozen=True):
    """A fetched body on disk: `size` in bytes, `sha256` in hex, `content_type` as sent by the server ("" if none)."""

    path: Path
    size: int
    sha256: str
    content_type: str
    final_url: str


class _Disk(msgspec.Struct, frozen=True):
    """The file for a body with its limits: `max_bytes`, and what the `reserve` leaves."""

    path: Path
    max_bytes: int
    reserve: DiskReserve | None

    def require(self, size: int) -> None:
        """Raises DiskNearlyFull when there is no room for `size` bytes."""
        if self.reserve is not None:
            self.reserve.require(size)

    def write(self, file: BinaryIO, piece: bytes) -> None:
        """Writes a piece of the body. Raises DiskNearlyFull, OSError."""
        self.require(len(piece))
        file.write(piece)


class Posted(msgspec.Struct, frozen=True):
    """A receiver's answer to a POST: its status, its Retry-After header ("" if none), the start of its body."""

    status: int
    retry_after: str
    answer: bytes


class SafeFetch:
    """Fetches URLs of strangers. Raises SettingsError when `settings.allowed_networks` has a bad entry.

    `resolve` or `look_up`, and `tls`, replace the system's name resolution and certificate authorities. `connections`
    and `per_host` bound simultaneous fetches, in total and from one host; the caller of `post` bounds posts.
    `name_threads` bounds simultaneous name look-ups. Accounts share each of these (`turns`).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
        least_rate: int = LEAST_RATE,
        grace: float = GRACE,
        connections: int = 128,
        per_host: int = 16,
        name_threads: int = 16,
        look_up: LookUp | None = None,
    ) -> None:
        self._allowed = Allowed.parse(settings.allowed_networks)
        self._resolve = resolve
        self._tls = tls
        self._least_rate = least_rate
        self._grace = grace
        self._session: aiohttp.ClientSession | None = None
        self._names = SystemNames(name_threads, look_up)
        self._connections = Turns(connections)
        self._per_host = per_host
        self._hosts: dict[tuple[str | None, int | None], Turns] = {}

    async def start(self) -> None:
        """Opens the HTTP session."""
        connector = aiohttp.TCPConnector(
            resolver=CheckedResolver(self._resolve or self._names.resolve, self._allowed),
            use_dns_cache=False,
            force_close=True,
            limit=0,
            ssl=self._tls or True,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"User-Agent": "Kurir", "Accept": "*/*", "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        """Aborts all requests. Idempotent."""
        if self._session is not None:
            await self._session.close()
        self._names.close()

    def check(self, url: str) -> None:
        """Raises UrlRefused for what the URL's text alone shows; resolved addresses are checked by `fetch`."""
        check_url(url, self._allowed)

    async def fetch(
        self,
        url: str,
        into: Path,
        *,
        max_bytes: int,
        within: float,
        redirects: int = 3,
        account: int = 0,
        reserve: DiskReserve | None = None,
    ) -> Fetched:
        """Streams the body behind `url` into the file `into` within `within` seconds; leaves no file on failure.

        The time starts when it is the account's turn. Raises UrlRefused, FetchFailed, TooLarge; OSError when the file
        cannot be written, DiskNearlyFull when it would use the `reserve`.
        """
        account_of_task.set(account)
        at = check_url(url, self._allowed)
        try:
            disk = _Disk(into, max_bytes, reserve)
            return await self._follow(at, disk, within, redirects=redirects, account=account)
        except BaseException as error:
            await asyncio.to_thread(into.unlink, missing_ok=True)
            if isinstance(error, (aiohttp.ClientError, TimeoutError)):
                raise _failure(error) from error
            raise

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, within: float, most_answer: int, account: int = 0
    ) -> Posted:
        """Posts `body` within `within` seconds without following redirects; returns the answer whatever its status.

        At most `most_answer` bytes of the answer are read, then the connection is closed; an answer whose body breaks
        off or is slow is cut there. Raises UrlRefused, FetchFailed.
        """
        assert self._session is not None
        account_of_task.set(account)
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
        try:
            async with (
                asyncio.timeout(within),
                self._session.post(
                    check_url(url, self._allowed), data=body, headers=headers, allow_redirects=False, timeout=limits
                ) as response,
            ):
                return Posted(
                    response.status, response.headers.get("Retry-After", ""), await _beginning(response, most_answer)
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _failure(error) from error

    async def _follow(self, at: URL, disk: _Disk, within: float, *, redirects: int, account: int) -> Fetched:
        loop = asyncio.get_running_loop()
        for _ in range(redirects + 1):
            async with self._turn(at, account):
                began = loop.time()
                async with asyncio.timeout(within):
                    found = await self._get(at, disk)
                within -= loop.time() - began
            if isinstance(found, Fetched):
                return found
            at = found
        raise FetchFailed(reasons.REDIRECTS(), permanent=True)

    @asynccontextmanager
    async def _turn(self, url: URL, account: int) -> AsyncGenerator[None]:
        """Waits for the account's turn for a connection to the URL's host; while it waits for the host it holds no
        other place."""
        key = (url.host, url.port)
        host = self._hosts.setdefault(key, Turns(self._per_host))
        try:
            async with host.place(account), self._connections.place(account):
                yield
        finally:
            if host.idle and self._hosts.get(key) is host:
                del self._hosts[key]

    async def _get(self, url: URL, disk: _Disk) -> Fetched | URL:
        """The body behind `url`, or the URL it redirects to."""
        assert self._session is not None
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=STALL_TIMEOUT)
        async with self._session.get(url, allow_redirects=False, timeout=limits) as response:
            if response.status not in _REDIRECTS:
                return await self._take(response, url, disk)
            return _target(url, response.headers.get("Location", ""), self._allowed)

    async def _take(self, response: aiohttp.ClientResponse, url: URL, disk: _Disk) -> Fetched:
        if response.status != 200:
            passing = response.status >= 500 or response.status in _PASSING
            raise FetchFailed(reasons.STATUS(status=response.status), permanent=not passing)
        if response.headers.get("Content-Encoding", "identity").strip().lower() not in {"identity", ""}:
            raise FetchFailed(reasons.COMPRESSED(), permanent=True)
        if response.content_length is not None and response.content_length > disk.max_bytes:
            raise TooLarge(disk.max_bytes)
        await asyncio.to_thread(disk.require, response.content_length or 0)
        with _new_file(disk.path) as file:
            size, digest = await self._stream(response, file, disk)
        if size == 0:
            raise FetchFailed(reasons.EMPTY(), permanent=True)
        content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Fetched(disk.path, size, digest, content_type, str(url))

    async def _stream(self, response: aiohttp.ClientResponse, file: BinaryIO, disk: _Disk) -> tuple[int, str]:
        digest = hashlib.sha256()
        waiting = bytearray()
        size = 0
        began = time.monotonic()
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > disk.max_bytes:
                raise TooLarge(disk.max_bytes)
            if size < self._least_rate * (time.monotonic() - began - self._grace):
                raise FetchFailed(reasons.TOO_SLOW(), permanent=False)
            digest.update(chunk)
            waiting += chunk
            if len(waiting) >= PIECE:
                await asyncio.to_thread(disk.write, file, bytes(waiting))
                waiting.clear()
        await asyncio.to_thread(disk.write, file, bytes(waiting))
        return size, digest.hexdigest()


async def _beginning(response: aiohttp.ClientResponse, most: int) -> bytes:
    read = bytearray()
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with asyncio.timeout(_ANSWER_TIMEOUT):
            async for chunk in response.content.iter_any():
                read += chunk
                if len(read) >= most:
                    break
    response.close()  # whatever else it sends is not waited for
    return bytes(read[:most])


def _new_file(path: Path) -> BinaryIO:
    """Opens the file on the event loop (microseconds) so that a cancelled fetch cannot leak it; only writes go to a
    thread."""
    return path.open("wb", buffering=0)


def _target(url: URL, location: str, allowed: Allowed) -> URL:
    if not location:
        raise FetchFailed(reasons.REDIRECT_NOWHERE(), permanent=True)
    try:
        return check_url(str(url.join(URL(location))), allowed)
    except ValueError as error:
        raise FetchFailed(reasons.REDIRECT_NO_URL(), permanent=True) from error
    except UrlRefused as refusal:
        raise UrlRefused(reasons.URL_REDIRECTED(reason=refusal.reason)) from refusal


def _failure(error: aiohttp.ClientError | TimeoutError) -> FetchFailed:
    """The FetchFailed for an exception; it does not quote the library's message, which may name internal addresses."""
    if isinstance(error, aiohttp.ClientConnectorDNSError) and error.os_error.errno in _UNKNOWN_NAME:
        return FetchFailed(reasons.HOST_NOT_KNOWN(), permanent=True)
    for kind, code, permanent in _FAILURES:
        if isinstance(error, kind):
            return FetchFailed(code(), permanent=permanent)
    return FetchFailed(reasons.NOT_HTTP(), permanent=False)
