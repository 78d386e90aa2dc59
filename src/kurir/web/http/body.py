"""A request's body, bounded in size and time, for every part of the gateway that reads one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.requests import ClientDisconnect
from starlette.types import Receive

TIMEOUT = 20.0
"""Seconds a client may take to send its body."""


class BodyTooLarge(Exception):  # noqa: N818 - the client's doing, not a mistake
    """The body has more bytes than are allowed."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body must not be larger than {limit} bytes")


class BodyTooSlow(Exception):  # noqa: N818 - the client's doing, not a mistake
    """The body did not arrive in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the body did not arrive within {seconds:g} seconds")
        self.seconds = seconds


async def read_body(
    receive: Receive,
    limit: int,
    *,
    timeout: float | None = None,
    announced: str = "",
    arrived: Callable[[int], None] = lambda _size: None,
) -> bytes:
    """The whole body, never more than `limit` bytes of it, within `timeout` seconds (None: `TIMEOUT`).

    `announced` is the Content-Length header, by which a large body is refused unread; `arrived` is called with the size
    so far. Raises BodyTooLarge, BodyTooSlow, ClientDisconnect, and what `arrived` raises.
    """
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise BodyTooLarge(limit)
    body = bytearray()
    seconds = TIMEOUT if timeout is None else timeout
    try:
        async with asyncio.timeout(seconds):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                body += message.get("body", b"")
                if len(body) > limit:
                    raise BodyTooLarge(limit)
                arrived(len(body))
                more = message.get("more_body", False)
    except TimeoutError as error:
        raise BodyTooSlow(seconds) from error
    return bytes(body)
