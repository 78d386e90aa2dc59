"""How an answer is read does not depend on how the network cuts it."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurir.kit.http_connection import Answer, HttpConnection

TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-", min_size=1, max_size=20)
RESERVED = {"content-length", "transfer-encoding", "retry-after", "connection", "upgrade", "proxy-connection"}
FIELD = st.tuples(
    TOKEN.filter(lambda name: name.lower() not in RESERVED), st.text("abc ,;=/\"'é\t", max_size=20).map(str.strip)
)


class Transport(asyncio.Transport):
    """Remembers whether it was closed."""

    closed = False

    def write(self, data: Any) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def read(loop: asyncio.AbstractEventLoop, pieces: Sequence[bytes]) -> tuple[Answer | type[BaseException] | None, bool]:
    """The answer or failure that the pieces make, at the end of the connection; whether it would have been kept."""
    ended: list[HttpConnection] = []
    with socket.socket() as unused:
        connection = HttpConnection(loop, unused, largest=10_000, answered=lambda _: None, ended=ended.append)
        connection.connection_made(Transport())
        answer = connection.send(b"", loop.time() + 1_000)
        for piece in pieces:
            if not ended:
                connection.data_received(piece)
        kept = not ended
        if kept:
            connection.connection_lost(None)
    assert len(ended) == 1
    assert answer.done()
    error = answer.exception()
    return (answer.result(), kept) if error is None else (type(error), False)


def cut(raw: bytes, places: Sequence[int]) -> list[bytes]:
    marks = sorted({0, len(raw), *(place % (len(raw) + 1) for place in places)})
    return [raw[start:end] for start, end in itertools.pairwise(marks)]


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, Answer, bool]:
    """An answer as it is written, what it means, and whether its connection can be kept."""
    status = draw(st.sampled_from([200, 201, 400, 429, 500, 503]))
    body = draw(st.binary(max_size=300))
    framing = draw(st.sampled_from(["length", "chunks", "end"]))
    fields = draw(st.lists(FIELD, max_size=5))
    retry_after = draw(st.sampled_from(["", "7", "Wed, 21 Oct 2026 07:28:00 GMT"]))
    closes = draw(st.booleans())
    lines = [f"HTTP/1.1 {status} {draw(st.sampled_from(['', 'OK', 'Not Found']))}"]
    lines += [f"{name}: {value}" for name, value in fields]
    if retry_after:
        lines.append(f"{draw(st.sampled_from(['Retry-After', 'retry-after']))}: {retry_after}")
    if closes:
        lines.append("Connection: close")
    if framing == "length":
        lines.append(f"Content-Length: {len(body)}")
        written = body
    elif framing == "chunks":
        lines.append("Transfer-Encoding: chunked")
        chunks = cut(body, draw(st.lists(st.integers(0, 300), max_size=4))) if body else []
        trailer = draw(st.sampled_from([b"", b"X: y\r\n"]))
        written = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailer + b"\r\n"
    else:
        written = body
    interim = b"".join(
        b"HTTP/1.1 %d X\r\n%s\r\n" % (code, b"Content-Length: 0\r\nRetry-After: 99\r\n" if code == 103 else b"")
        for code in draw(st.lists(st.sampled_from([100, 102, 103]), max_size=2))
    )
    raw = interim + "\r\n".join([*lines, "", ""]).encode("latin-1") + written
    return raw, Answer(status, body, retry_after), framing != "end" and not closes


PLACES = st.lists(st.integers(0, 2_000), max_size=12)


@given(answers(), PLACES, st.booleans())
def test_an_answer_in_pieces_is_the_same_answer(
    loop: asyncio.AbstractEventLoop, made: tuple[bytes, Answer, bool], places: list[int], bytewise: bool
) -> None:
    raw, meaning, keeps = made
    pieces = [bytes([byte]) for byte in raw] if bytewise else cut(raw, places)
    for way in ([raw], pieces):
        answer, kept = read(loop, way)
        assert answer == meaning
        if keeps:
            assert kept


@given(answers(), PLACES, st.binary(min_size=1, max_size=40))
def test_what_follows_ends_the_connection_and_changes_nothing(
    loop: asyncio.AbstractEventLoop, made: tuple[bytes, Answer, bool], places: list[int], more: bytes
) -> None:
    raw, meaning, keeps = made
    if keeps and more.strip(b"\r\n"):  # the parser skips empty lines between two answers
        assert read(loop, cut(raw + more, places)) == (meaning, False)


@given(answers(), PLACES, st.integers(0, 2_000), st.binary(max_size=3), st.integers(0, 3))
def test_a_damaged_answer_ends_the_same_way_in_any_pieces(
    loop: asyncio.AbstractEventLoop,
    made: tuple[bytes, Answer, bool],
    places: list[int],
    at: int,
    inserted: bytes,
    removed: int,
) -> None:
    raw, _, _ = made
    at %= len(raw)
    damaged = raw[:at] + inserted + raw[at + removed :]
    whole, _ = read(loop, [damaged])
    assert read(loop, cut(damaged, places))[0] == whole
    assert read(loop, [bytes([byte]) for byte in damaged])[0] == whole
    assert isinstance(whole, Answer) or issubclass(whole, (OSError, ValueError))  # type: ignore[arg-type]
