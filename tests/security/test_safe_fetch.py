"""Strangers' URLs against `safe_fetch`: what must never be reached, and servers that misbehave.

Every URL of the table is tried directly, as a redirect, and (addresses) as what a name resolves to. A tripwire under
the event loop records each connection and lets only those to the test's own server through.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.security.test_url_rules import PRIVATE, TABLE, case_id
from tests.sentences import english

from kurir.kit.safe_fetch import Fetched, FetchFailed, SafeFetch, TooLarge
from kurir.kit.url_rules import UrlRefused
from kurir.settings import Settings

# -- a server of strangers, and a tripwire -----------------------------------------------------------------------------

Reply = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Stranger:
    """A server on loopback that answers each path with bytes or with whatever a coroutine does."""

    def __init__(self) -> None:
        self.replies: dict[str, bytes | Reply] = {}
        self.requests: list[tuple[str, bytes]] = []
        self.over = asyncio.Event()
        self.port = 0
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self.over.set()
        self._server.close()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split()[1].decode()
                self.requests.append((path, head))
                reply = self.replies.get(path, answer(b"nothing here", status=404))
                if isinstance(reply, bytes):
                    writer.write(reply)
                    await writer.drain()
                else:
                    await reply(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def answer(body: bytes = b"hello", status: int = 200, length: int | None = None, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture
async def stranger() -> AsyncIterator[Stranger]:
    server = Stranger()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(autouse=True)
def tripwire(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    """Every address that was connected to; the public internet answers "refused" at once, nothing leaves."""
    reached: list[tuple[str, int]] = []
    original = asyncio.selector_events.BaseSelectorEventLoop.sock_connect

    async def connect(loop: asyncio.selector_events.BaseSelectorEventLoop, sock: socket.socket, address: tuple) -> None:
        reached.append(address[:2])
        if address[0] != "127.0.0.1":
            raise ConnectionRefusedError("tripwire")
        await original(loop, sock, address)

    monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", connect)
    yield reached


class Names:
    """A name server that gives one list of addresses per question, the last one for ever."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = {name.replace("_", "."): list(given) for name, given in answers.items()}
        self.asked: list[str] = []

    async def resolve(self, host: str, _port: int) -> list[str]:
        self.asked.append(host)
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        given = self.answers[host]
        return given.pop(0) if len(given) > 1 else given[0]


@contextlib.asynccontextmanager
async def fetching(
    *allowed: str, names: Names | None = None, tls: ssl.SSLContext | None = None, grace: float = 5.0
) -> AsyncIterator[SafeFetch]:
    names = names or Names()
    safe = SafeFetch(Settings(allowed_networks=allowed), resolve=names.resolve, tls=tls, grace=grace)
    await safe.start()
    try:
        yield safe
    finally:
        await safe.close()


async def get(safe: SafeFetch, url: str, into: Path, *, max_bytes: int = 100_000, within: float = 20) -> Fetched:
    return await safe.fetch(url, into / "file", max_bytes=max_bytes, within=within)


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


# -- the table, through redirects and names ----------------------------------------------------------------------------


async def test_no_url_of_the_table_is_fetched(tmp_path: Path, tripwire: list[tuple[str, int]]) -> None:
    names = Names()
    async with fetching(names=names) as safe:
        for url in TABLE:
            with pytest.raises(UrlRefused):
                await get(safe, url, tmp_path)
    assert tripwire == []
    assert names.asked == []
    assert left(tmp_path) == []


async def test_no_url_of_the_table_is_followed(
    stranger: Stranger, tmp_path: Path, tripwire: list[tuple[str, int]]
) -> None:
    relative = 0
    async with fetching(f"127.0.0.1:{stranger.port}") as safe:
        for number, url in enumerate(TABLE):
            path = f"/{number}"
            stranger.replies[path] = answer(status=302, Location=url.replace("\r", "").replace("\n", ""))
            with pytest.raises((UrlRefused, FetchFailed)) as refusal:
                await get(safe, stranger.url(path), tmp_path)
            # what reads as a relative reference comes back to the stranger itself, which has nothing there
            relative += "status 404" in str(refusal.value)
    assert relative < 15
    assert set(tripwire) <= {("127.0.0.1", stranger.port), ("93.184.215.14", 80)}
    assert left(tmp_path) == []


@pytest.mark.parametrize("address", PRIVATE, ids=case_id)
async def test_no_name_leads_to_a_private_address(
    address: str, tmp_path: Path, tripwire: list[tuple[str, int]]
) -> None:
    names = Names(alone_example=[[address]], mixed_example=[["93.184.215.14", address]])
    async with fetching(names=names) as safe:
        for host in ("alone.example", "mixed.example", "mixed.example."):
            names.answers.setdefault(host, [["93.184.215.14", address]])
            with pytest.raises(UrlRefused) as refusal:
                await get(safe, f"http://{host}/", tmp_path)
            assert address not in english(refusal.value.reason)
    assert tripwire == []


@pytest.mark.parametrize("address", PRIVATE, ids=case_id)
async def test_no_name_is_bound_anew_between_check_and_connection(
    address: str, tmp_path: Path, tripwire: list[tuple[str, int]]
) -> None:
    names = Names(rebound_example=[["93.184.215.14"], [address]])
    async with fetching(names=names) as safe:
        with pytest.raises(FetchFailed) as failure:
            await get(safe, "http://rebound.example/", tmp_path)
        assert not failure.value.permanent
        assert names.asked == ["rebound.example"]
        assert tripwire == [("93.184.215.14", 80)]
        with pytest.raises(UrlRefused):
            await get(safe, "http://rebound.example/", tmp_path)
    assert tripwire == [("93.184.215.14", 80)]


async def test_a_redirect_is_resolved_and_checked_again(
    stranger: Stranger, tmp_path: Path, tripwire: list[tuple[str, int]]
) -> None:
    stranger.replies["/go"] = answer(status=307, Location="http://inner.example/secret")
    names = Names(inner_example=[["10.0.0.5"]])
    async with fetching(f"127.0.0.1:{stranger.port}", names=names) as safe:
        with pytest.raises(UrlRefused, match="the URL's host is not on the public internet"):
            await get(safe, stranger.url("/go"), tmp_path)
    assert tripwire == [("127.0.0.1", stranger.port)]


async def test_an_allowed_network_opens_its_ports_under_any_name_and_nothing_else(
    stranger: Stranger, tmp_path: Path
) -> None:
    stranger.replies["/x"] = answer(b"inside")
    names = Names(
        files_example=[["127.0.0.1"]], outside_example=[["93.184.215.14"]], both_example=[["127.0.0.1", "10.0.0.1"]]
    )
    async with fetching("127.0.0.0/8", names=names) as safe:
        assert (await get(safe, f"http://files.example:{stranger.port}/x", tmp_path)).size == 6
        with pytest.raises(UrlRefused, match="port must be 80 or 443"):
            await get(safe, f"http://outside.example:{stranger.port}/x", tmp_path)
        with pytest.raises(UrlRefused, match="public internet"):
            await get(safe, f"http://both.example:{stranger.port}/x", tmp_path)


async def test_an_allowed_pair_opens_that_host_alone(stranger: Stranger, tmp_path: Path) -> None:
    stranger.replies["/x"] = answer(b"inside")
    names = Names(files_internal=[["127.0.0.1"]], evil_example=[["127.0.0.1"]])
    async with fetching(f"files.internal:{stranger.port}", names=names) as safe:
        assert (await get(safe, f"http://files.internal:{stranger.port}/x", tmp_path)).size == 6
        for url in (f"http://evil.example:{stranger.port}/x", stranger.url("/x"), "http://files.internal/x"):
            with pytest.raises(UrlRefused):
                await get(safe, url, tmp_path)


# -- servers that misbehave --------------------------------------------------------------------------------------------


async def test_an_ordinary_file(stranger: Stranger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    body = bytes(range(256)) * 12_000
    stranger.replies["/a"] = answer(status=301, Location="/b?c=d", Set_Cookie="a=b")
    stranger.replies["/b?c=d"] = answer(body, Content_Type="image/PNG; charset=x")
    async with fetching("127.0.0.0/8") as safe:
        fetched = await get(safe, stranger.url("/a"), tmp_path, max_bytes=len(body))
    assert fetched.path.read_bytes() == body
    assert (fetched.size, fetched.content_type) == (len(body), "image/png")
    assert fetched.final_url == stranger.url("/b?c=d")
    head = stranger.requests[1][1].lower()
    assert b"accept-encoding: identity" in head
    for absent in (b"cookie", b"referer", b"authorization"):
        assert absent not in head


@pytest.mark.parametrize(
    ("status", "permanent"),
    [(404, True), (403, True), (401, True), (204, True), (206, True), (304, True), (410, True), (429, False),
     (408, False), (425, False), (500, False), (502, False), (503, False)],
)  # fmt: skip
async def test_statuses(stranger: Stranger, tmp_path: Path, status: int, permanent: bool) -> None:
    stranger.replies["/x"] = answer(b"", status=status)
    async with fetching("127.0.0.0/8") as safe:
        with pytest.raises(FetchFailed, match=str(status)) as failure:
            await get(safe, stranger.url("/x"), tmp_path)
    assert failure.value.permanent is permanent


async def test_redirects_are_counted(stranger: Stranger, tmp_path: Path) -> None:
    stranger.replies["/loop"] = answer(status=302, Location="/loop")
    stranger.replies["/nowhere"] = answer(status=302)
    stranger.replies["/odd"] = answer(status=302, Location="http://[broken/")
    for step in range(3):
        stranger.replies[f"/{step}"] = answer(status=308, Location=f"/{step + 1}")
    stranger.replies["/3"] = answer(b"arrived")
    async with fetching("127.0.0.0/8") as safe:
        for path, reason in (("/loop", "too often"), ("/nowhere", "to nowhere"), ("/odd", "not a URL")):
            with pytest.raises(FetchFailed, match=reason) as failure:
                await get(safe, stranger.url(path), tmp_path)
            assert failure.value.permanent
        assert [path for path, _ in stranger.requests].count("/loop") == 4
        assert (await get(safe, stranger.url("/0"), tmp_path)).size == 7


async def test_a_declared_length_beyond_the_limit_is_not_read(stranger: Stranger, tmp_path: Path) -> None:
    stranger.replies["/x"] = answer(b"", length=101)
    async with fetching("127.0.0.0/8") as safe:
        with pytest.raises(TooLarge, match="larger than 100 bytes"):
            await get(safe, stranger.url("/x"), tmp_path, max_bytes=100)
    assert left(tmp_path) == []


async def test_an_endless_body_is_cut_at_the_limit(stranger: Stranger, tmp_path: Path) -> None:
    sent = 0

    async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            await writer.drain()
            sent += 0x10000

    stranger.replies["/x"] = endless
    async with fetching("127.0.0.0/8") as safe:
        with pytest.raises(TooLarge):
            await get(safe, stranger.url("/x"), tmp_path, max_bytes=1_000_000)
    assert sent < 20_000_000
    assert left(tmp_path) == []


async def test_a_drip_is_cut_by_its_rate(stranger: Stranger, tmp_path: Path) -> None:
    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not writer.is_closing() and not stranger.over.is_set():
            writer.write(b"x")
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stranger.over.wait(), 0.01)

    stranger.replies["/x"] = drip
    async with fetching("127.0.0.0/8", grace=0.1) as safe:
        with pytest.raises(FetchFailed, match="too slowly") as failure:
            await get(safe, stranger.url("/x"), tmp_path)
    assert not failure.value.permanent


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"])
async def test_silence_is_cut_by_the_clock(stranger: Stranger, tmp_path: Path, head: bytes) -> None:
    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await writer.drain()
        await stranger.over.wait()

    stranger.replies["/x"] = silent
    async with fetching("127.0.0.0/8") as safe:
        with pytest.raises(FetchFailed, match="too long") as failure:
            await get(safe, stranger.url("/x"), tmp_path, within=0.3)
    assert not failure.value.permanent
    assert left(tmp_path) == []


async def test_a_body_shorter_than_declared(stranger: Stranger, tmp_path: Path) -> None:
    stranger.replies["/x"] = answer(b"abc", length=10)
    async with fetching("127.0.0.0/8") as safe:
        with pytest.raises(FetchFailed, match="whole file") as failure:
            await get(safe, stranger.url("/x"), tmp_path)
    assert not failure.value.permanent
    assert left(tmp_path) == []


async def test_a_body_longer_than_declared_never_counts(stranger: Stranger, tmp_path: Path) -> None:
    stranger.replies["/x"] = answer(b"abc" + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", length=3)
    async with fetching("127.0.0.0/8") as safe:
        for _ in range(2):
            try:
                fetched = await get(safe, stranger.url("/x"), tmp_path)
            except FetchFailed as failure:
                assert "proper HTTP" in english(failure.reason)
            else:
                assert fetched.path.read_bytes() == b"abc"


async def test_a_gzip_bomb_stays_packed_and_is_refused(stranger: Stranger, tmp_path: Path) -> None:
    stranger.replies["/x"] = answer(gzip.compress(bytes(50_000_000)), Content_Encoding="gzip")
    async with fetching("127.0.0.0/8") as safe:
        with pytest.raises(FetchFailed, match="compressed") as failure:
            await get(safe, stranger.url("/x"), tmp_path)
    assert failure.value.permanent


@pytest.mark.parametrize(
    "raw",
    [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x00" * 300, b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"b" * 99_999,
     b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nx", b""],
    ids=["ssh", "zeros", "status", "header", "length", "nothing"],
)  # fmt: skip
async def test_what_is_not_http(stranger: Stranger, tmp_path: Path, raw: bytes) -> None:
    stranger.replies["/x"] = raw
    async with fetching("127.0.0.0/8") as safe:
        with pytest.raises(FetchFailed) as failure:
            await get(safe, stranger.url("/x"), tmp_path)
    assert len(english(failure.value.reason)) < 80


async def test_an_empty_answer(stranger: Stranger, tmp_path: Path) -> None:
    stranger.replies["/x"] = answer(b"")
    async with fetching("127.0.0.0/8") as safe:
        with pytest.raises(FetchFailed, match="empty"):
            await get(safe, stranger.url("/x"), tmp_path)
    assert left(tmp_path) == []


async def test_names_that_do_not_resolve(tmp_path: Path) -> None:
    async def broken(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    async with fetching() as safe:
        with pytest.raises(FetchFailed, match="not known") as failure:
            await get(safe, "http://nobody.example/", tmp_path)
        assert failure.value.permanent
    safe = SafeFetch(Settings(), resolve=broken)
    await safe.start()
    with pytest.raises(FetchFailed, match="could not be looked up") as failure:
        await get(safe, "http://somebody.example/", tmp_path)
    await safe.close()
    assert not failure.value.permanent


async def test_the_systems_own_resolution_is_checked_too(tmp_path: Path, tripwire: list[tuple[str, int]]) -> None:
    safe = SafeFetch(Settings(allowed_networks=("10.0.0.0/8",)))  # a network is open, so the name is not refused early
    await safe.start()
    with pytest.raises(UrlRefused, match="public internet"):
        await get(safe, "http://localhost/", tmp_path)
    await safe.close()
    assert tripwire == []


async def test_tls_proves_the_name_and_not_the_address(tmp_path: Path) -> None:
    server_tls, client_tls = _certificate_for("files.example", tmp_path)
    server = Stranger()
    server.replies["/x"] = answer(b"private")
    await server.start(server_tls)
    names = Names(files_example=[["127.0.0.1"]], other_example=[["127.0.0.1"]])
    into = tmp_path / "into"
    into.mkdir()
    async with fetching("127.0.0.0/8", names=names, tls=client_tls) as safe:
        assert (await get(safe, f"https://files.example:{server.port}/x", into)).size == 7
        with pytest.raises(FetchFailed, match="certificate") as failure:
            await get(safe, f"https://other.example:{server.port}/x", into)
        assert failure.value.permanent
    await server.stop()


async def test_a_cancelled_fetch_leaves_no_file(stranger: Stranger, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def stuck(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\nabc")
        await writer.drain()
        begun.set()
        await stranger.over.wait()

    stranger.replies["/x"] = stuck
    async with fetching("127.0.0.0/8") as safe:
        task = asyncio.create_task(get(safe, stranger.url("/x"), tmp_path))
        await asyncio.wait_for(begun.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert left(tmp_path) == []


def _certificate_for(name: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))
