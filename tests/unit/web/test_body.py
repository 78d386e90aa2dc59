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
