"""`web/http/body`: a request's body is bounded in size and time for every part that reads one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from kurir.web.http.body import BodyTooLarge, BodyTooSlow, read_body


def _parts(*parts: bytes | None) -> Callable[[], Awaitable[dict[str, Any]]]:
    """A client that sends these parts, None meaning that it goes away, and then nothing for ever."""
    left = list(parts)

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()
        part = left.pop(0)
        if part is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part, "more_body": bool(left) or part == b""}

    return receive


async def test_a_body_is_put_together_up_to_its_limit() -> None:
    sizes: list[int] = []
    assert await read_body(_parts(b"ab", b"cd"), 4, announced="4", arrived=sizes.append) == b"abcd"
    assert sizes == [2, 4]


async def test_a_body_beyond_its_limit_is_refused_when_it_gets_there() -> None:
    with pytest.raises(BodyTooLarge, match="larger than 3 bytes"):
        await read_body(_parts(b"ab", b"cd", b"never read"), 3)


@pytest.mark.parametrize("announced", ["5", "99999999999999999999999999"])
async def test_what_is_announced_too_large_is_refused_unread(announced: str) -> None:
    with pytest.raises(BodyTooLarge):
        await read_body(_parts(), 4, announced=announced)


async def test_a_length_that_cannot_be_read_decides_nothing() -> None:
    assert await read_body(_parts(b"ab"), 4, announced="-5") == b"ab"


async def test_a_body_that_does_not_arrive_is_too_slow() -> None:
    with pytest.raises(BodyTooSlow, match=r"within 0\.01 seconds"):
        await read_body(_parts(b""), 4, timeout=0.01)


async def test_a_client_that_goes_away_is_distinguished() -> None:
    with pytest.raises(ClientDisconnect):
        await read_body(_parts(b"a", None), 4)


async def test_a_body_that_came_with_its_head_needs_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(asyncio, "timeout")
    sizes: list[int] = []
    assert await read_body(_parts(b"ab"), 2, arrived=sizes.append) == b"ab"
    assert sizes == [2]
    with pytest.raises(BodyTooLarge):
        await read_body(_parts(b"abc"), 2)
    with pytest.raises(ClientDisconnect):
        await read_body(_parts(None), 2)
    with pytest.raises(AttributeError):
        await read_body(_parts(b"a", b"b"), 2)


@pytest.mark.parametrize("waits", [1, 3])
async def test_a_body_that_comes_later_is_read_whole(waits: int) -> None:
    async def receive() -> dict[str, Any]:
        for _ in range(waits):
            await asyncio.sleep(0)
        return {"type": "http.request", "body": b"ab", "more_body": False}

    assert await read_body(receive, 2) == b"ab"


async def test_what_goes_wrong_while_it_is_waited_for_is_raised() -> None:
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        await read_body(receive, 2)


async def test_whoever_gives_up_waiting_ends_the_wait_inside() -> None:
    ended = asyncio.Event()
    waiting = asyncio.Event()

    async def receive() -> dict[str, Any]:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # ends in its own time
            ended.set()
        raise AssertionError("nothing came")

    reading = asyncio.create_task(read_body(receive, 2))
    await waiting.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert ended.is_set()
