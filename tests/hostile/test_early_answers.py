"""Whoever is refused before his request has come in can read why, also if he writes it all first; within bounds."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from tests.harness.gateway import open_harness
from tests.harness.http import LIMITS, served

from kurir.web.http import connection_limits

CLIENTS = 50
SIZE = 50_000_000
PIECE = bytes(1_000_000)


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    limits = msgspec.structs.replace(LIMITS, head_bytes=8_192, head_seconds=1.0)
    async with open_harness(tmp_path, max_body_bytes=1_000_000) as harness, served(harness.app, limits) as port:
        yield port


def naive(port: int, head: bytes, size: int = SIZE, piece: bytes = PIECE) -> bytes:
    """What a client reads that writes its whole request first. Raises ConnectionError as such a client would."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        line.sendall(head)
        for _ in range(size // len(piece)):
            line.sendall(piece)
        answer = b""
        while more := line.recv(65_536):
            answer += more
        return answer


def post(path: str, *fields: str, size: int = SIZE) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: gateway", f"Content-Length: {size}", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


SEND = "/public/v1/send_personal_message"


async def all_of(port: int, head: bytes, clients: int, size: int = SIZE, piece: bytes = PIECE) -> list[bytes]:
    with ThreadPoolExecutor(clients) as threads:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(threads, naive, port, head, size, piece) for _ in range(clients)]
        return list(await asyncio.gather(*calls))


@pytest.mark.timeout(180)
async def test_fifty_clients_that_write_before_they_read_all_get_the_answer(port: int) -> None:
    answers = await all_of(port, post(SEND), CLIENTS)
    assert {answer.split(b" ", 2)[1] for answer in answers} == {b"400"}
    assert all(b"too large" in answer or b"terlalu besar" in answer for answer in answers)


CHUNKS = b"f4240\r\n" + PIECE + b"\r\n"
REFUSALS = [
    pytest.param(post(SEND, "Expect: 100-continue"), PIECE, b"400", id="a body that is announced too large"),
    pytest.param(
        post(SEND).replace(b"Content-Length: 50000000", b"Transfer-Encoding: chunked"),
        CHUNKS,
        b"400",
        id="a body that turns out too large",
    ),
    pytest.param(post("/meta/callbacks", "Connection: close"), PIECE, b"401", id="an unsigned callback"),
    pytest.param(
        post("/meta/callbacks", "Connection: close", "X-Hub-Signature-256: sha256=" + "0" * 64),
        PIECE,
        b"413",
        id="a callback that is too large",
    ),
    pytest.param(
        post("/meta/callbacks", "Connection: close", "X-Hub-Signature-256: no", size=3_000_000),
        PIECE[:500_000],
        b"403",
        id="a signature that is none",
    ),
    pytest.param(post("/nowhere", "Connection: close"), PIECE, b"404", id="nothing there"),
    pytest.param(post("/api/v1/messages", "Connection: close"), PIECE, b"404", id="nothing there for operators"),
    pytest.param(b"POST /nowhere HTTP/1.0\r\nContent-Length: 50000000\r\n\r\n", PIECE, b"404", id="HTTP/1.0"),
    pytest.param(post(SEND, "X: " + "x" * 9_000), PIECE, b"431", id="a head that is too large"),
    pytest.param(b"POST /x HTTP/1.1\r\nContent-Length: 50000000\r\n\r\n", PIECE, b"400", id="no host"),
    pytest.param(b"NOTHING\r\n\r\n", PIECE, b"400", id="no HTTP"),
]


@pytest.mark.parametrize(("head", "piece", "status"), REFUSALS)
async def test_every_early_answer_is_read(port: int, head: bytes, piece: bytes, status: bytes) -> None:
    size = 3_000_000 if b"Length: 3000000" in head else SIZE
    for answer in await all_of(port, head, 4, size, piece):
        final = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert final.split(b" ", 2)[1] == status, answer[:200]


async def test_whoever_never_stops_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By bytes when he is fast, by seconds when he drips."""
    monkeypatch.setattr(connection_limits, "_LINGER_MOST", 3.0)
    with pytest.raises(ConnectionError):
        await all_of(port, post(SEND, size=10**12), 1, size=connection_limits._LINGER_BYTES + 50_000_000)

    def drip() -> float:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
            line.sendall(post(SEND, size=10**12))
            assert line.recv(65_536).startswith(b"HTTP/1.1 400")
            began = time.monotonic()
            try:
                while time.monotonic() - began < 30:
                    line.sendall(b"x")
                    time.sleep(0.05)
            except ConnectionError:
                pass
            return time.monotonic() - began

    assert await asyncio.to_thread(drip) < 15
