"""The lean HTTP client: its kept connections, its limits, and how it finds the server."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.harness.raw_http import Line, raw_server
from yarl import URL

from kurir.kit import http_client
from kurir.kit.http_client import Failed, HttpClient
from kurir.kit.http_connection import Answer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CLOSING = OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
GOOD = Answer(200, b"{}")


@asynccontextmanager
async def client(url: str, *, connections: int = 8, **more: Any) -> AsyncGenerator[HttpClient]:
    made = HttpClient(URL(url), headers={}, connections=connections, largest=1_000_000, **more)
    try:
        yield made
    finally:
        made.close()


async def post(made: HttpClient, seconds: float = 5.0, body: bytes = b"{}") -> Answer | Failed:
    return await made.request("POST", "/x", {}, body, seconds)


async def forever(line: Line) -> None:
    """Answers every request."""
    while True:
        await line.request()
        await line.write(OK)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


# -- kept connections --------------------------------------------------------------------------------------------------


async def test_a_close_that_the_loop_has_not_seen_yet_is_noticed() -> None:
    """The other side closes while this thread is busy, and the next call follows before the loop looks."""
    listener = socket.create_server(("127.0.0.1", 0))
    close, closed = threading.Event(), threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            for _ in range(2):
                line, _ = listener.accept()
                line.recv(65_536)
                line.sendall(OK)
                close.wait(10)
                line.close()
                closed.set()

    server = threading.Thread(target=serve)
    server.start()
    try:
        async with client(f"http://127.0.0.1:{listener.getsockname()[1]}") as made:
            assert await post(made) == GOOD
            close.set()
            assert closed.wait(10)  # no await: the loop stands still
            assert await post(made) == GOOD
    finally:
        close.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # ends an accept
        await asyncio.to_thread(server.join, 10)
        listener.close()


async def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.write(OK)
        await asyncio.sleep(0.05)
        await line.write(OK)
        await line.closed()

    async with raw_server(script) as server, client(server.url) as made:
        assert await post(made) == GOOD
        await until(lambda: server.open == 0)
        assert await post(made) == GOOD


@pytest.mark.parametrize("target", ["/a b", "/a\r\nX: y", "/\u00e9", "/\0"])
async def test_a_target_is_one_word(target: str) -> None:
    async with raw_server(forever) as server, client(server.url) as made:
        answer = await made.request("POST", target, {}, b"", 5.0)
        assert isinstance(answer, Failed)
        assert not answer.sent
        assert not server.connections


async def test_an_idle_connection_is_closed_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "IDLE_SECONDS", 0.2)
    async with raw_server(forever) as server, client(server.url) as made:
        assert await asyncio.gather(*(post(made) for _ in range(3))) == [GOOD] * 3
        assert server.open == 3
        await until(lambda: server.open == 0)
        assert await post(made) == GOOD  # and the timer runs again
        await until(lambda: server.open == 0)


async def test_the_connection_used_last_is_used_next() -> None:
    """So that the others become idle, and are closed."""
    async with raw_server(forever) as server, client(server.url) as made:
        await asyncio.gather(*(post(made) for _ in range(5)))
        before = server.connections
        for _ in range(5):
            assert await post(made) == GOOD
        assert server.connections == before
        assert len({id(one) for one in made._idle}) == before


async def test_calls_beyond_the_limit_wait_in_their_order() -> None:
    order: list[bytes] = []

    async def script(line: Line) -> None:
        while True:
            order.append((await line.request())[-1:])
            await asyncio.sleep(0.01)
            await line.write(OK)

    async with raw_server(script) as server, client(server.url, connections=2) as made:
        calls = [asyncio.create_task(post(made, body=b"%d" % number)) for number in range(10)]
        assert await asyncio.gather(*calls) == [GOOD] * 10
    assert server.most_open == 2
    assert order[2:] == sorted(order[2:])


async def test_waiting_calls_get_the_room_of_connections_that_end() -> None:
    async def once(line: Line) -> None:
        await line.request()
        await line.write(CLOSING)

    async with raw_server(once) as server, client(server.url, connections=2) as made:
        assert await asyncio.gather(*(post(made) for _ in range(6))) == [GOOD] * 6
        assert server.connections == 6


@pytest.mark.parametrize(("turn", "answer"), [("_keep", OK), ("_make_room", CLOSING)], ids=["a connection", "room"])
async def test_a_waiting_call_cancelled_at_its_turn_passes_it_on(
    turn: str, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its turn is a kept connection or the room for one."""
    go = asyncio.Event()

    async def script(line: Line) -> None:
        while True:
            await line.request()
            await go.wait()
            await line.write(answer)

    async with raw_server(script) as server, client(server.url, connections=1) as made:
        give = getattr(made, turn)

        def give_and_cancel(*to: Any) -> None:
            give(*to)  # the call has its turn, and has not run yet
            calls[1].cancel()

        monkeypatch.setattr(made, turn, give_and_cancel)
        calls = [asyncio.create_task(post(made)) for _ in range(3)]
        await server.arrived.wait()
        await until(lambda: len(made._waiting) == 2)
        go.set()
        assert await calls[0] == GOOD
        with pytest.raises(asyncio.CancelledError):
            await calls[1]
        assert await calls[2] == GOOD
        assert len(server.requests) == 2


async def test_no_place_is_lost_whatever_happens() -> None:
    """After calls that were cut, cancelled, reset, refused and late, exactly as many go at once as before."""
    chance = random.Random(7)
    together = asyncio.Event()
    waiting: list[Line] = []

    async def script(line: Line) -> None:
        while True:
            request = await line.request()
            if request.endswith(b"together"):
                waiting.append(line)
                await together.wait()
                await line.write(OK)
                continue
            match chance.randrange(6):
                case 0:
                    return
                case 1:
                    line.reset()
                case 2:
                    await asyncio.sleep(0.5)
                case 3:
                    await line.write(b"garbage\r\n\r\n")
                case 4:
                    await line.write(OK + b"more")
                case _:
                    await line.write(OK)

    async def call(made: HttpClient) -> None:
        task = asyncio.create_task(post(made, seconds=chance.choice([0.0, 0.001, 0.05, 1.0])))
        if chance.random() < 0.3:
            await asyncio.sleep(chance.random() * 0.02)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async with raw_server(script) as server, client(server.url, connections=3) as made:
        for _ in range(10):
            await asyncio.gather(*(call(made) for _ in range(20)))
        calls = [asyncio.create_task(post(made, body=b"together")) for _ in range(4)]
        await until(lambda: len(waiting) == 3)
        await asyncio.sleep(0.1)
        assert len(waiting) == 3  # the fourth waits
        together.set()
        assert await asyncio.gather(*calls) == [GOOD] * 4
        assert not made._limits


async def test_closing_ends_calls_that_wait_and_connect() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                one = stack.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            async with client(f"http://127.0.0.1:{full.getsockname()[1]}", connections=1) as made:
                calls = [asyncio.create_task(post(made, seconds=30.0)) for _ in range(2)]
                await until(lambda: len(made._waiting) == 1)
                made.close()
                async with asyncio.timeout(2):
                    for answer in await asyncio.gather(*calls):
                        assert isinstance(answer, Failed)
                        assert not answer.sent


# -- names and addresses -----------------------------------------------------------------------------------------------


async def test_the_next_address_is_tried() -> None:
    async with (
        raw_server(forever) as server,
        client(f"http://graph.test:{server.port}", look_up=lambda *_: ["127.0.0.2", "::1", "127.0.0.1"]) as made,
    ):
        assert await post(made) == GOOD
        assert b"Host: graph.test:%d\r\n" % server.port in server.requests[0]


async def test_ipv6() -> None:
    try:
        async with raw_server(forever, host="::1") as server, client(server.url) as made:
            assert await post(made) == GOOD
            assert b"Host: [::1]:%d\r\n" % server.port in server.requests[0]
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")


async def test_a_silent_address_holds_nobody_back() -> None:
    """The address of a server whose queue is full answers nothing; the next one is tried beside it."""
    async with raw_server(forever) as server:
        with socket.socket() as full, contextlib.ExitStack() as stack:
            full.bind(("127.0.0.3", server.port))
            full.listen(0)
            for _ in range(2):
                one = stack.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            async with client(
                f"http://graph.test:{server.port}", look_up=lambda *_: ["127.0.0.3", "127.0.0.1"]
            ) as made:
                assert await post(made, seconds=2.0) == GOOD


async def test_calls_share_one_look_up_and_a_dead_address_is_looked_up_again() -> None:
    asked: list[str] = []

    def look_up(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    async with raw_server(forever) as server:
        port = server.port
        async with client(f"http://graph.test:{port}", look_up=look_up) as made:
            assert await asyncio.gather(*(post(made) for _ in range(8))) == [GOOD] * 8
            assert asked == ["graph.test"]
    async with client(f"http://graph.test:{port}", look_up=look_up) as made:
        asked.clear()
        for count in (1, 2):
            answer = await post(made)
            assert isinstance(answer, Failed)
            assert not answer.sent
            assert len(asked) == count


async def test_a_look_up_that_hangs_ends_with_the_time_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "CONNECT_SECONDS", 0.2)
    over = threading.Event()

    def look_up(_host: str, _port: int) -> list[str]:
        over.wait(10)
        return []

    try:
        async with client("http://graph.test", look_up=look_up) as made:
            for answer in await asyncio.gather(*(post(made) for _ in range(8))):
                assert isinstance(answer, Failed)
                assert isinstance(answer.error, TimeoutError)
                assert not answer.sent
    finally:
        over.set()


@pytest.mark.parametrize("found", [[], OSError("no such name"), UnicodeError("label too long")])
async def test_a_name_without_addresses(found: list[str] | Exception) -> None:
    def look_up(_host: str, _port: int) -> list[str]:
        if isinstance(found, Exception):
            raise found
        return found

    async with client("http://graph.test", connections=1, look_up=look_up) as made:
        for _ in range(2):  # its place is given back
            answer = await post(made)
            assert isinstance(answer, Failed)
            assert not answer.sent


async def test_a_connection_that_is_closed_before_the_request_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server closes between the connection and the request, and the loop has not seen it."""
    listener = socket.create_server(("127.0.0.1", 0))
    closed = threading.Event()

    def serve() -> None:
        line, _ = listener.accept()
        line.close()
        closed.set()

    loop = asyncio.get_running_loop()
    connect = loop.create_connection

    async def connected(*to: Any, **more: Any) -> Any:
        made = await connect(*to, **more)
        assert closed.wait(10)  # no await: the loop stands still
        return made

    monkeypatch.setattr(loop, "create_connection", connected)
    server = threading.Thread(target=serve)
    server.start()
    with listener:
        async with client(f"http://127.0.0.1:{listener.getsockname()[1]}") as made:
            answer = await post(made)
        await asyncio.to_thread(server.join, 10)
    assert isinstance(answer, Failed)
    assert not answer.sent


async def test_a_closed_client_calls_nobody() -> None:
    async with raw_server(forever) as server, client(server.url) as made:
        assert await post(made) == GOOD
        made.close()
        answer = await post(made)
        assert isinstance(answer, Failed)
        assert isinstance(answer.error, ConnectionAbortedError)
        assert not answer.sent
    assert (server.connections, len(server.requests)) == (1, 1)
