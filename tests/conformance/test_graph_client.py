"""Both ways to the Graph API, the lean client and aiohttp, against servers that misbehave: the same outcome each time.

On a real socket, over TCP and TLS, on both event loops. Whatever happens, a request is never repeated.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import inspect
import io
import socket
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs
from tests.harness.raw_http import Authority, Line, RawServer, Script, answering, new_authority, raw_server, until_over

from kurir.channels.cloud_api import graph as graph_module
from kurir.channels.cloud_api import graph_uploads
from kurir.channels.cloud_api.graph import Call, Graph, GraphResponse, NoAnswer, NotSent
from kurir.kit import http_client, log_limit
from kurir.reasons.failures import CLOSED, NAME, REFUSED, TLS, UNREADABLE
from kurir.reasons.messages import META_TIMED_OUT, META_UNREACHABLE

TOKEN = "EAAG-a-secret-token"
BODY = b'{"messages":[{"id":"wamid.x"}]}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
SENT = GraphResponse(200, {"messages": [{"id": "wamid.x"}]})
UNREAD = NoAnswer(META_UNREACHABLE(error=UNREADABLE()))
CUT = NoAnswer(META_UNREACHABLE(error=CLOSED()))
LATE = NoAnswer(META_TIMED_OUT())


class Caller:
    """The Graph API as one of the two ways calls it."""

    def __init__(self, way: str, graph: Graph) -> None:
        self.way = way
        self.lean = way == "lean"
        self.graph = graph

    async def post(self, body: bytes = b"{}", **more: Any) -> Call:
        more = {"token": TOKEN, "path": "111/messages"} | more
        if self.lean:
            return await self.graph.call("POST", json={"text": body.decode()}, **more)
        return await self.graph.call("POST", data=io.BytesIO(body), **more)


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test once on asyncio's own event loop and once on the gateway's."""

    @functools.wraps(test)
    def run(*args: Any, loop_factory: Callable[[], asyncio.AbstractEventLoop], **named: Any) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(test(*args, **named))

    signature = inspect.signature(test)
    factory = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), factory])  # type: ignore[attr-defined]
    return run


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    return request.param


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("authority"))


class Site:
    """Makes servers and callers of one kind: a way, over TCP or TLS."""

    def __init__(self, way: str, tls: Authority | None) -> None:
        self.way = way
        self.tls = tls

    @asynccontextmanager
    async def open(self, script: Script, seconds: float = 5.0) -> AsyncGenerator[tuple[RawServer, Caller]]:
        async with raw_server(script, self.tls and self.tls.server) as server, calling(self.way, server, seconds) as it:
            yield server, it


@asynccontextmanager
async def calling(way: str, server: RawServer | str, seconds: float = 5.0) -> AsyncGenerator[Caller]:
    graph = Graph((server if isinstance(server, str) else server.url) + "/v25.0", seconds)
    await graph.start()
    try:
        yield Caller(way, graph)
    finally:
        await graph.close()


@pytest.fixture(params=["lean", "aiohttp"])
def way(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["tcp", "tls"])
def site(request: pytest.FixtureRequest, way: str, authority: Authority, trusting: None) -> Site:
    return Site(way, authority if request.param == "tls" else None)


@pytest.fixture
def trusting(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's authority is among the system's, where the operator's own would be."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.trusted))


@pytest.fixture(autouse=True)
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Everything that was logged; the token is in none of it."""
    monkeypatch.setattr(log_limit, "EVERY", 0.0)
    with capture_logs() as logs:
        yield logs
    assert TOKEN not in str(logs)


# -- answers -----------------------------------------------------------------------------------------------------------

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWERS = {
    "a length": OK,
    "chunks": CHUNKED + b"5\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (BODY[:5], len(BODY) - 5, BODY[5:]),
    "chunks with an extension and a trailer": CHUNKED + b"%x;a=b\r\n%s\r\n0\r\nX: y\r\n\r\n" % (len(BODY), BODY),
    "until the end of the connection": b"HTTP/1.1 200 OK\r\n\r\n" + BODY,
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
    "the connection closes": OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1),
    "100 before it": b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    "103 before it": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Length: 0\r\n\r\n" * 3 + OK,
    "no reason": OK.replace(b"200 OK", b"200 "),
    "names in capitals": OK.replace(b"Content-Length", b"CONTENT-LENGTH"),
}


@pytest.mark.parametrize("raw", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "byte by byte"])
@on_both_loops
async def test_an_answer_is_read(site: Site, raw: bytes, pieces: bool) -> None:
    async def script(line: Line) -> None:
        await line.request()
        for piece in [bytes([byte]) for byte in raw] if pieces else [raw]:
            await line.write(piece)
            if pieces:
                await asyncio.sleep(0)

    async with site.open(script) as (server, caller):
        assert await caller.post() == SENT
    assert len(server.requests) == 1


@on_both_loops
async def test_the_request_as_the_server_reads_it(site: Site) -> None:
    async with site.open(answering(OK, OK, then=until_over)) as (server, caller):
        assert await caller.post(b"halo \xc3\xa9") == SENT
        assert await caller.graph.call("GET", "222/message_templates", TOKEN, query={"after": "a b&c", "limit": "1"})
    first, second = server.requests
    head, _, body = first.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v25.0/111/messages HTTP/1.1"
    host = server.url.partition("://")[2]
    assert {f"Host: {host}", f"Authorization: Bearer {TOKEN}", "User-Agent: kurir"} <= set(lines)
    assert (body == b"halo \xc3\xa9") or (body == b'{"text":"halo \xc3\xa9"}')
    if caller.lean:
        assert {"Accept: application/json", "Accept-Encoding: identity", "Content-Type: application/json"} <= set(lines)
        assert f"Content-Length: {len(body)}" in lines
    assert second.startswith(b"GET /v25.0/222/message_templates?after=a+b%26c&limit=1 HTTP/1.1\r\n")
    assert second.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in second


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", GraphResponse(204, None)),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", GraphResponse(304, None)),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2\r\n\r\n{}", GraphResponse(302, {})),
        (
            b'HTTP/1.1 429 Slow\r\nretry-after:  7 \r\nRetry-After: 9\r\nContent-Length: 2\r\n\r\n{}',
            GraphResponse(429, {}, 7.0),
        ),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 6\r\n\r\n<html>", GraphResponse(502, None)),
    ],
    ids=["204", "304", "302", "retry after", "a proxy's page"],
)  # fmt: skip
@on_both_loops
async def test_other_statuses(site: Site, raw: bytes, answer: GraphResponse) -> None:
    async with site.open(answering(raw, then=until_over)) as (server, caller):
        assert await caller.post() == answer
    assert len(server.requests) == 1


@on_both_loops
async def test_what_is_compressed_unasked_is_an_answer_without_body(site: Site) -> None:
    packed = gzip.compress(BODY)
    raw = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(packed), packed)
    async with site.open(answering(raw)) as (_, caller):
        assert await caller.post() == (GraphResponse(200, None) if caller.lean else SENT)  # aiohttp does ask for it


@on_both_loops
async def test_an_early_answer_counts_and_ends_the_connection(site: Site) -> None:
    async def script(line: Line) -> None:
        await line.head()
        await line.write(OK)
        await until_over(line)

    async with site.open(script) as (server, caller):
        assert await caller.post(b"x" * 30_000_000) == SENT
        assert await caller.post() == SENT
    assert server.connections == 2


# -- broken answers ----------------------------------------------------------------------------------------------------

BROKEN = {
    "nothing": (b"", CUT),
    "half of the first line": (b"HTTP/1.1 20", CUT),
    "half of the head": (b"HTTP/1.1 200 OK\r\nContent-Le", CUT),
    "half of the body": (OK[:-5], CUT),
    "half of a chunk": (CHUNKED + b"20\r\n{}", CUT),
    "no last chunk": (CHUNKED + b"2\r\n{}\r\n", CUT),
    "half of the trailer": (CHUNKED + b"2\r\n{}\r\n0\r\nX: y", CUT),
    "only 100": (b"HTTP/1.1 100 Continue\r\n\r\n", CUT),
    "no HTTP": (b"\x00\x01\x02 garbage\r\n\r\n", UNREAD),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", UNREAD),
    "a length and chunks": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        UNREAD,
    ),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", UNREAD),
    "a negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}", UNREAD),
    "a length that is none": (b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}", UNREAD),
    "a chunk without a size": (CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", UNREAD),
    "a field without a name": (b"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 2\r\n\r\n{}", UNREAD),
}


@pytest.mark.parametrize(("raw", "outcome"), BROKEN.values(), ids=BROKEN)
@on_both_loops
async def test_a_broken_answer_leaves_doubt(site: Site, raw: bytes, outcome: NoAnswer) -> None:
    async with site.open(answering(raw)) as (server, caller):
        call = await caller.post()
    assert isinstance(call, NoAnswer)
    if caller.lean:
        assert call == outcome
    assert len(server.requests) == 1


@pytest.mark.parametrize("start", [b"", OK[:20], OK[:-5], b"HTTP/1.1 200 OK\r\n\r\n" + BODY, CHUNKED + b"2\r\n{}\r\n"])
@on_both_loops
async def test_a_reset_leaves_doubt(way: str, start: bytes) -> None:
    """Also where the end of the connection would have been the end of the answer."""

    async def script(line: Line) -> None:
        await line.request()
        await line.write(start)
        await asyncio.sleep(0.05)
        line.reset()

    async with raw_server(script) as server, calling(way, server) as caller:
        call = await caller.post()
    if not caller.lean and start.endswith(BODY):
        assert call in (CUT, SENT)  # aiohttp reads a body without a length up to the reset
    else:
        assert call == CUT
    assert len(server.requests) == 1


@pytest.mark.parametrize("fields", [b"Connection: upgrade\r\nUpgrade: x\r\n", b""], ids=["asked for", "without a name"])
@on_both_loops
async def test_a_change_of_protocol_is_no_success(site: Site, fields: bytes) -> None:
    raw = b"HTTP/1.1 101 Switching Protocols\r\n%s\r\n" % fields
    async with site.open(answering(raw + OK), seconds=1.0) as (server, caller):
        call = await caller.post()
        if caller.lean:
            assert call == UNREAD
        else:
            assert isinstance(call, NoAnswer) or call == GraphResponse(101, None)
    assert len(server.requests) == 1


FLOODS = {
    "a first line without end": (b"HTTP/1.1 200 ", b"O" * 10_000),
    "a field without end": (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 10_000),
    "a name without end": (b"HTTP/1.1 200 OK\r\n", b"x" * 10_000),
    "fields without end": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1_000),
    "empty fields without end": (b"HTTP/1.1 200 OK\r\n", b"X:\r\n" * 1_000),
    "a trailer without end": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"X: y\r\n" * 1_000),
    "a trailer's field without end": (CHUNKED + b"2\r\n{}\r\n0\r\nX: ", b"x" * 10_000),
    "a chunk's extension without end": (CHUNKED + b"2;", b"x" * 10_000),
    "interim answers without end": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "interim answers with fields": (b"", b"HTTP/1.1 103 Hints\r\nX: y\r\n\r\n" * 100),
    "a body without end": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100_000),
    "a body of a large length": (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", b"x" * 100_000),
    "chunks without end": (CHUNKED, b"4000\r\n" + b"x" * 0x4000 + b"\r\n"),
}


@pytest.mark.parametrize(("start", "piece"), FLOODS.values(), ids=FLOODS)
@on_both_loops
async def test_a_flood_ends_the_call(site: Site, start: bytes, piece: bytes) -> None:
    written: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def script(line: Line) -> None:
        await line.request()
        await line.write(start)
        written.set_result(await line.flood(piece, 40_000_000))

    async with site.open(script, seconds=10.0 if site.way == "lean" else 1.5) as (server, caller):
        call = await caller.post()
        assert isinstance(call, NoAnswer)
        if caller.lean:
            assert call == UNREAD
            async with asyncio.timeout(5):
                assert await written < 30_000_000  # 8 MB of a body, and what the system holds on both sides
    assert len(server.requests) == 1


# -- kept connections --------------------------------------------------------------------------------------------------


@on_both_loops
async def test_a_connection_is_used_again(site: Site) -> None:
    async with site.open(answering(OK, ANSWERS["chunks"], ANSWERS["100 before it"], OK, then=until_over)) as (
        server,
        caller,
    ):
        for _ in range(4):
            assert await caller.post() == SENT
    assert (server.connections, len(server.requests)) == (1, 4)


@pytest.mark.parametrize(
    "first",
    [ANSWERS["the connection closes"], ANSWERS["HTTP/1.0"].replace(b"\r\n", b"\r\nContent-Length: 31\r\n", 1)],
    ids=["it closes", "HTTP/1.0"],
)
@on_both_loops
async def test_a_connection_that_the_server_will_not_keep_is_not_used_again(site: Site, first: bytes) -> None:
    async with site.open(answering(first, OK, then=until_over)) as (server, caller):
        assert await caller.post() == SENT
        assert await caller.post() == SENT
    assert server.connections == 2


@pytest.mark.parametrize("extra", [OK.replace(b"wamid.x", b"wamid.y"), b"x", b"\x00", b"HTTP"])
@on_both_loops
async def test_what_follows_an_answer_answers_nothing(site: Site, extra: bytes) -> None:
    async with site.open(answering(OK + extra, OK, then=until_over)) as (server, caller):
        first = await caller.post()
        assert first == SENT if caller.lean else first == SENT or isinstance(first, NoAnswer)
        assert await caller.post() == SENT
    assert len(server.requests) == 2
    if caller.lean:  # aiohttp keeps the connection after some of these
        assert server.connections == 2


def one_each(then: bytes = b"") -> Script:
    """Answers one request on each connection, writes `then` a little later, and closes."""

    async def script(line: Line) -> None:
        await line.request()
        await line.write(OK)
        await asyncio.sleep(0.05)
        await line.write(then)

    return script


@pytest.mark.parametrize("then", [b"", b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"], ids=["nothing", "408"])
@on_both_loops
async def test_a_kept_connection_that_the_server_closed_is_replaced(site: Site, then: bytes) -> None:
    """Some servers write 408 before they close."""
    async with site.open(one_each(then)) as (server, caller):
        assert await caller.post() == SENT
        async with asyncio.timeout(5):
            await server.ended.wait()
        await asyncio.sleep(0.05)
        assert await caller.post() == SENT
    assert (server.connections, len(server.requests)) == (2, 2)


@on_both_loops
async def test_a_reset_on_a_kept_connection_leaves_doubt(site: Site) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.write(OK)
        await line.request()
        line.reset()

    async with site.open(script) as (server, caller):
        assert await caller.post() == SENT
        assert isinstance(await caller.post(), NoAnswer)
    assert (server.connections, len(server.requests)) == (1, 2)


# -- connections that do not come about --------------------------------------------------------------------------------


@on_both_loops
async def test_nobody_listens(way: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with calling(way, f"http://127.0.0.1:{port}") as caller:
        assert await caller.post() == NotSent(META_UNREACHABLE(error=REFUSED()))


@on_both_loops
async def test_an_unknown_name(way: str) -> None:
    async with calling(way, "http://graph.invalid") as caller:
        assert await caller.post() == NotSent(META_UNREACHABLE(error=NAME()))


@on_both_loops
async def test_a_server_that_does_not_take_connections(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(graph_uploads, "CONNECT_SECONDS", 0.3)
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        began = time.monotonic()
        async with calling(way, f"http://127.0.0.1:{full.getsockname()[1]}") as caller:
            call = await caller.post()
    assert isinstance(call, NotSent)
    assert call.reason == META_TIMED_OUT()
    assert time.monotonic() - began < 4


@on_both_loops
async def test_a_server_that_never_finishes_tls(way: str, trusting: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(graph_uploads, "CONNECT_SECONDS", 0.3)
    async with raw_server(until_over) as server, calling(way, f"https://127.0.0.1:{server.port}") as caller:
        assert await caller.post() == NotSent(META_TIMED_OUT())


@pytest.mark.parametrize("how", ["no TLS", "another name", "an unknown authority", "cut off"])
@on_both_loops
async def test_no_tls_no_request(way: str, how: str, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = {"another name": authority.other_name, "an unknown authority": authority.server}.get(how)
    if how != "an unknown authority":
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.trusted))

    async def script(line: Line) -> None:
        await line.reader.read(100)
        if how == "no TLS":
            await line.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        server.requests.append(b"?")

    async with raw_server(script, tls) as server, calling(way, f"https://localhost:{server.port}") as caller:
        call = await caller.post()
    assert isinstance(call, NotSent)
    if how != "cut off":
        assert call.reason == META_UNREACHABLE(error=TLS())
    if tls is not None:
        assert not server.requests


# -- time --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nCont", OK[:-5], CHUNKED + b"2\r\n{}\r\n"])
@on_both_loops
async def test_silence_ends_with_the_time(site: Site, start: bytes) -> None:
    async with site.open(answering(start, then=until_over), seconds=0.3) as (server, caller):
        assert await caller.post() == LATE
    assert len(server.requests) == 1


@on_both_loops
async def test_drops_do_not_stretch_the_time(site: Site) -> None:
    async def script(line: Line) -> None:
        await line.request()
        for byte in OK:
            await line.write(bytes([byte]))
            await asyncio.sleep(0.1)

    began = time.monotonic()
    async with site.open(script, seconds=0.5) as (_, caller):
        assert await caller.post() == LATE
    assert time.monotonic() - began < 3


@on_both_loops
async def test_a_call_that_got_no_connection_in_time_sent_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "_CONNECTIONS", 1)
    async with site.open(answering(b"", then=until_over), seconds=5.0) as (server, caller):
        first = asyncio.create_task(caller.post())
        await server.arrived.wait()
        assert await caller.post(seconds=0.2) == NotSent(META_TIMED_OUT())
        assert (server.connections, len(server.requests)) == (1, 1)
        first.cancel()


@on_both_loops
async def test_a_cancelled_call_closes_its_connection(site: Site) -> None:
    closed = asyncio.Event()

    async def script(line: Line) -> None:
        await line.request()
        if line.server.connections == 1:
            await line.closed()
            closed.set()
        else:
            await line.write(OK)

    async with site.open(script) as (server, caller):
        call = asyncio.create_task(caller.post())
        await server.arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(5):
            await closed.wait()
        assert await caller.post() == SENT
    assert server.connections == 2


@on_both_loops
async def test_closing_ends_what_is_under_way(site: Site) -> None:
    async with site.open(answering(b"", b"", b"", then=until_over), seconds=30.0) as (server, caller):
        calls = [asyncio.create_task(caller.post()) for _ in range(3)]
        while len(server.requests) < 3:
            await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            await caller.graph.close()
            assert all(isinstance(call, NoAnswer) for call in await asyncio.gather(*calls))
        assert isinstance(await caller.post(), NotSent)
    assert len(server.requests) == 3


# -- what a request must not become ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {"token": TOKEN + "\r\nX-Injected: 1"},
        {"token": TOKEN + "\nX-Injected: 1"},
        {"token": TOKEN + "\0"},
        {"headers": {"X": "y\r\nX-Injected: 1"}},
        {"headers": {"X\r\nX-Injected": "1"}},
    ],
)
@on_both_loops
async def test_a_field_cannot_begin_another_one(site: Site, more: dict[str, Any]) -> None:
    async with site.open(answering(OK)) as (server, caller):
        call = await caller.post(**more)
        assert isinstance(call, NotSent if caller.lean else NoAnswer)  # aiohttp finds it when it writes
    assert not server.requests


@pytest.mark.parametrize(
    "path", ["1 1/messages HTTP/1.1\r\nX-Injected: 1", "1\r\n\r\n", "é/../x", "a b", "?a=b c", "%00"]
)
@on_both_loops
async def test_a_path_is_one_path(site: Site, path: str) -> None:
    async with site.open(answering(OK, then=until_over)) as (server, caller):
        call = await caller.post(path=path)
    if isinstance(call, NotSent):
        assert not server.requests
    else:
        [request] = server.requests
        first, *fields = request.partition(b"\r\n\r\n")[0].split(b"\r\n")
        assert first.isascii()
        assert first.count(b" ") == 2
        assert not any(field.startswith(b"X-Injected") for field in fields)


@on_both_loops
async def test_no_proxy_of_the_environment_is_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with site.open(answering(OK)) as (_, caller):
        assert await caller.post() == SENT


@on_both_loops
async def test_many_calls_at_once(site: Site) -> None:
    async def script(line: Line) -> None:
        while True:
            text = (await line.request()).rpartition(b"no-")[2].rstrip(b'"}')
            body = b'{"messages":[{"id":"wamid.%s"}]}' % text
            await line.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async with site.open(script) as (server, caller):
        for _ in range(3):
            calls = await asyncio.gather(*(caller.post(b"no-%d" % number) for number in range(40)))
            ids = [call.body["messages"][0]["id"] for call in calls]  # type: ignore[union-attr]
            assert ids == [f"wamid.{number}" for number in range(40)]
    assert len(server.requests) == 120
    assert server.connections <= 40
