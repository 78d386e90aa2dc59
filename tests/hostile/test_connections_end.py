"""What ends a connection early leaves nothing behind: no request at work, nothing in memory, nothing in the log."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs
from tests.harness.gateway import Harness, open_harness
from tests.harness.http import LIMITS, Raw, served
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from kurir.kit.tokens import load_token
from kurir.web.http import body, connection_limits

INFO, CALLBACK = "/public/v1/info", "/meta/callbacks"
LIMIT = 100_000
LARGE = b"x" * 300_000


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, max_body_bytes=LIMIT, roles=("api",)) as harness:
        yield harness


@pytest.fixture
async def port(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(body, "TIMEOUT", 0.3)
    async with served(harness.app, msgspec.structs.replace(LIMITS, head_bytes=8_192, head_seconds=1.0)) as port:
        yield port


def request(
    path: str, body: bytes = b"", *, length: int | None = None, method: str = "POST", fields: str = ""
) -> bytes:
    size = len(body) if length is None else length
    return f"{method} {path} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {size}\r\n{fields}\r\n".encode() + body


def chunked(path: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"%x\r\n%s\r\n" % (len(LARGE), LARGE)


# -- nothing in memory ----------------------------------------------------------------------------------------------

SIGNED = "X-Hub-Signature-256: sha256=" + "0" * 64 + "\r\n"
EARLY = {
    "announced too large, sent whole": request(INFO, LARGE),
    "announced far too large": request(INFO, LARGE, length=900_000_000),
    "turns out too large": chunked(INFO),
    "too slow": request(INFO, b"{", length=50),
    "a callback without a signature": request(CALLBACK, LARGE),
    "a callback with a wrong one": request(CALLBACK, LARGE, fields=SIGNED),
    "a callback that is too large": request(CALLBACK, LARGE, length=900_000_000, fields=SIGNED),
    "a callback that is too slow": request(CALLBACK, b"{", length=50, fields=SIGNED),
    "no such endpoint": request("/public/v1/nope", LARGE),
    "no such path": request("/nope", LARGE, fields="Connection: close\r\n"),
    "no such method": request("/healthz", LARGE, method="PUT"),
    "a page with a body": request("/", LARGE, method="GET"),
    "an operator's door without a token": request("/api/v1/numbers/x/contacts/sync", LARGE),
    "HTTP/1.0": request("/nope", LARGE).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a head that is too large": b"GET / HTTP/1.1\r\nX: " + LARGE,
    "a head that is too slow": b"GET / HT",
    "no HTTP": b"\0\r\n\r\n" + LARGE,
    "goes on after a good request": request(INFO, b"{}") + b"\0\r\n\r\n" + LARGE,
    "requests ahead with large bodies": request(INFO, LARGE) * 3,
    "too many ahead": request(INFO, b"{}") * 40,
    "waits to be asked for its body": request(INFO, length=50, fields="Expect: 100-continue\r\n"),
}


def resets(line: socket.socket) -> None:
    """Reads a little and resets the connection: the gateway sees an error, not an end."""
    line.recv(100)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def goes_away(line: socket.socket) -> None:
    """Does not wait for an answer."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reads_to_the_end(line: socket.socket) -> None:
    line.shutdown(socket.SHUT_WR)
    while line.recv(65_536):
        pass


def never_stops(line: socket.socket) -> None:
    while True:
        line.sendall(LARGE)


ENDINGS: list[Callable[[socket.socket], None]] = [resets, goes_away, reads_to_the_end, never_stops]


def once(port: int, data: bytes, ending: Callable[[socket.socket], None]) -> None:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        line.sendall(data)
        ending(line)


async def often(port: int, data: bytes, ending: Callable[[socket.socket], None], times: int) -> None:
    with ThreadPoolExecutor(8) as threads:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(threads, once, port, data, ending) for _ in range(times)))


@pytest.fixture(autouse=True)
def only_what_comes_now() -> Iterator[None]:
    """What other tests have left in this process is not looked through: that takes seconds each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def kept() -> Counter[str]:
    """What is left of connections: themselves, their requests, and the tasks of these."""
    gc.collect()
    kinds = (connection_limits.Connection, RequestResponseCycle)
    found = Counter(kind.__name__ for one in gc.get_objects() for kind in kinds if isinstance(one, kind))
    found["tasks"] = sum("run_asgi" in repr(task.get_coro()) for task in asyncio.all_tasks())
    return +found


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def until_nothing_is_kept() -> None:
    try:
        async with asyncio.timeout(15):
            while kept():
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"all clients are gone, but there are still: {dict(kept())}")


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
async def test_nothing_is_left_of_who_is_refused_early(
    port: int, ending: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limits, "_LINGER_BYTES", 2_000_000)
    monkeypatch.setattr(connection_limits, "_LINGER_MOST", 2.0)
    for data in EARLY.values():
        await often(port, data, ending, 8)
    await until_nothing_is_kept()


async def test_refusals_do_not_make_the_gateway_grow(port: int) -> None:
    """By 1,500 bodies of 300 kB: what was kept of each was some 50 kB and more."""

    async def refused(times: int) -> int:
        for name in ("announced too large, sent whole", "announced far too large", "turns out too large"):
            await often(port, EARLY[name], resets, times)
        await until_nothing_is_kept()
        return resident()

    before = await refused(50)
    assert await refused(500) - before < 20_000_000


async def test_a_resting_connection_does_not_keep_the_body_that_nobody_read(port: int) -> None:
    raws = [await Raw.open(port) for _ in range(5)]
    for raw in raws:
        await raw.say(request("/public/v1/nope", LARGE))
        assert await raw.status() in {400, 404}
    cycles = [one for one in gc.get_objects() if isinstance(one, RequestResponseCycle)]
    assert len(cycles) >= len(raws)
    assert not any(cycle.body for cycle in cycles)
    for raw in raws:  # and they are as good as new
        await raw.say(request("/healthz", method="GET"))
        assert await raw.status() == 200


# -- nothing in the log ---------------------------------------------------------------------------------------------

TAILS = {
    "no HTTP": (b"\0\r\n\r\n", {400}),
    "a head that is too large": (b"GET /healthz HTTP/1.1\r\nHost: gateway\r\nX: " + b"x" * 20_000, {431, 408}),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", {400}),
    "a length that is none": (request(INFO).replace(b"Length: 0", b"Length: x"), {400}),
    "a chunk that is none": (chunked(INFO)[:80].split(b"\r\n\r\n")[0] + b"\r\n\r\nzz\r\n", {400}),
    "a body that is too large": (request(INFO, LARGE), {400}),
    "half a head": (b"GET /he", {408}),
    "half a head, and the end": (b"GET /he", set()),
    "half a body, and the end": (request(INFO, b"{", length=9), set()),
}


def pipelined(harness: Harness) -> dict[str, bytes]:
    token = f"Authorization: Bearer {load_token(harness.gateway.settings.data_dir)}\r\n"
    return {
        "healthz": request("/healthz", method="GET"),
        "metrics": request("/metrics", method="GET"),
        "a page": request("/", method="GET", fields="Accept: text/html\r\n"),
        "info": request(INFO, b"{}"),
        "info that waits": request(INFO, b"{}", fields="Expect: 100-continue\r\n"),
        "a callback": request(CALLBACK, b"{}"),
        "a callback with a signature": request(CALLBACK, b"{}", fields=SIGNED),
        "an operator's": request(f"/api/v1/numbers/{harness.ours.device.key}/contacts/sync", b"{}", fields=token),
        "nowhere": request("/nope", b"{}"),
    }


def statuses(answers: bytes) -> list[int]:
    found = []
    while answers:
        head, _, answers = answers.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 "), head[:100]
        found.append(int(head[9:12]))
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length: "):
                size = int(line[16:])
                assert len(answers) >= size, "an answer is cut off"
                answers = answers[size:]
    return [status for status in found if status != 100]


async def answered(port: int, pieces: list[bytes], *, end: bool) -> list[int]:
    """What is answered to these pieces, each sent when there was time to begin with the one before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        for _ in range(5):
            await asyncio.sleep(0)
    if end:
        writer.write_eof()
    async with asyncio.timeout(15):
        answers = await reader.read(-1)
    writer.close()
    return statuses(answers)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("apart", [False, True], ids=["in one", "apart"])
async def test_requests_ahead_of_a_bad_one_end_quietly(
    harness: Harness, port: int, tail: str, apart: bool, caplog: pytest.LogCaptureFixture
) -> None:
    bad, expected = TAILS[tail]
    with capture_logs() as logs, caplog.at_level(logging.WARNING):
        tries = [(name, good, many) for name, good in pipelined(harness).items() for many in (1, 2, 3, 7, 31)]
        answers = await asyncio.gather(
            *(
                answered(port, [good * many, bad] if apart else [good * many + bad], end=not expected)
                for _, good, many in tries
            )
        )
        for found, (name, _, many) in zip(answers, tries, strict=True):
            assert not expected or set(found[-1:]) & expected, (name, many, found)
            assert 500 not in found, (name, many, found)
        await until_nothing_is_kept()
    assert [line for line in logs if line["log_level"] in {"error", "critical"} or "exc_info" in line] == []
    assert [record.getMessage() for record in caplog.records] == []  # uvicorn's and asyncio's
    assert harness.surprises() == 0


async def test_too_many_ahead_end_quietly(harness: Harness, port: int, caplog: pytest.LogCaptureFixture) -> None:
    for good in pipelined(harness).values():
        assert (await answered(port, [good * 40], end=False))[-1] == 400
    await until_nothing_is_kept()
    assert [record.getMessage() for record in caplog.records] == []
    assert harness.surprises() == 0


@pytest.mark.parametrize("tail", [b"\0\r\n\r\n", None], ids=["no HTTP", "gone"])
async def test_the_one_at_work_learns_that_nobody_waits_and_the_queued_ones_do_not_begin(
    tail: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    begun, reported = asyncio.Event(), asyncio.Event()
    calls = 0

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        nonlocal calls
        calls += 1
        while (await receive()).get("more_body"):
            pass
        begun.set()
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
        reported.set()

    async with served(waits) as port, asyncio.timeout(20):
        raw = await Raw.open(port)
        await raw.say(request("/x", b"{}") * 3)
        await begun.wait()
        if tail:
            await raw.say(tail)
            assert await raw.status() == 400
            assert await raw.closed()
        else:
            raw.writer.transport.abort()
        raw.close()
        await reported.wait()
        await until_nothing_is_kept()
    assert calls == 1
    assert [record.getMessage() for record in caplog.records] == []


# -- answers that nobody reads --------------------------------------------------------------------------------------

LARGE_ANSWER = 16_000_000
"""Bytes: more than the system takes off our hands for a client that reads nothing."""


async def large(scope: Any, receive: Any, send: Any) -> None:
    """Answers with much, in one piece or in many, as the path says."""
    while scope["path"] == "/reads" and (await receive()).get("more_body"):
        pass
    pieces = 1 if scope["path"] == "/one" else 64
    headers = [(b"content-length", str(LARGE_ANSWER).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for left in reversed(range(pieces)):
        await send({"type": "http.response.body", "body": b"x" * (LARGE_ANSWER // pieces), "more_body": left > 0})


def asking(port: int, data: bytes) -> socket.socket:
    """A client that asks and does not read."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    line.settimeout(20)
    line.connect(("127.0.0.1", port))
    line.sendall(data)
    return line


async def until_served() -> None:
    async with asyncio.timeout(15):
        while not kept()["Connection"]:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("path", ["/one", "/many"])
@pytest.mark.parametrize("fields", ["", "Connection: close\r\n"], ids=["keeps", "closes"])
@pytest.mark.parametrize("ahead", [1, 3])
async def test_who_never_reads_an_answer_is_cut_off(
    path: str, fields: str, ahead: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection_limits, "_UNREAD", 1.5)
    async with served(large) as port:
        with asking(port, request(path, method="GET", fields=fields) * ahead):
            await until_served()
            await until_nothing_is_kept()
    assert [record.getMessage() for record in caplog.records] == []


async def test_who_reads_slowly_gets_all_of_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "_UNREAD", 3.0)

    def slowly(line: socket.socket) -> int:
        """Reads for several times as long as a stop of it may take."""
        began, size = time.monotonic(), 0
        while data := line.recv(65_536):
            size += len(data)
            if size >= LARGE_ANSWER:
                break
            time.sleep(max(0.0, began + 9.0 * size / LARGE_ANSWER - time.monotonic()))
        return size

    async with served(large) as port:
        with asking(port, request("/many", method="GET")) as line:
            assert await asyncio.to_thread(slowly, line) >= LARGE_ANSWER


KEPT = {
    "one piece that is not read": request("/one", method="GET"),
    "many pieces that are not read": request("/many", method="GET") * 3,
    "a refusal": b"GET / HTTP/1.1\r\n\r\n",
    "half a head": b"GET / HT",
    "half a body": request("/reads", b"x", length=9),
    "half a body behind a good request": request("/reads", b"x") + request("/reads", b"x", length=9),
}


@pytest.mark.parametrize("data", KEPT.values(), ids=KEPT)
async def test_a_stop_waits_for_nobody_who_keeps_a_connection_open(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limits, "_AT_THE_END", 0.5)
    async with served(large, grace=40) as port:
        line = asking(port, data)
        await until_served()
        began = time.monotonic()
    with line:
        assert time.monotonic() - began < 15


async def test_a_stop_waits_for_who_is_still_worked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "_AT_THE_END", 0.2)
    begun = asyncio.Event()

    async def takes_its_time(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await asyncio.sleep(2)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async with served(takes_its_time, grace=40) as port:
        line = asking(port, request("/x", b"{}"))
        await begun.wait()
    with line:
        assert line.recv(100).startswith(b"HTTP/1.1 200")
