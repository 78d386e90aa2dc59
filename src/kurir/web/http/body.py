"""A request's body, bounded in size and time, for every part of the gateway that reads one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, Generic, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

T = TypeVar("T")

TIMEOUT = 20.0
"""Seconds a client may take to send its body."""


class BodyTooLarge(Exception):  # noqa: N818 - the client's doing, not a mistake
    """The body has more bytes than are allowed."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body must not be larger than {limit} bytes")
        self.limit = limit


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
    arrived: Callable[[int], None] | None = None,
) -> bytes:
    """The whole body, never more than `limit` bytes of it, within `timeout` seconds (None: `TIMEOUT`).

    `announced` is the Content-Length header, by which a large body is refused unread; `arrived` is called with the size
    so far. Raises BodyTooLarge, BodyTooSlow, ClientDisconnect, and what `arrived` raises.
    """
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise BodyTooLarge(limit)
    first = _Begun(receive())
    if first.result is not None and not first.result.get("more_body", False):
        body = _piece(first.result)  # it came with its head: nothing to wait for
        _check(len(body), limit, arrived)
        return bytes(body)
    seconds = TIMEOUT if timeout is None else timeout
    try:
        async with asyncio.timeout(seconds):
            message, body = await first, bytearray()
            while True:
                body += _piece(message)
                _check(len(body), limit, arrived)
                if not message.get("more_body", False):
                    return bytes(body)
                message = await receive()
    except TimeoutError as error:
        raise BodyTooSlow(seconds) from error


def _piece(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b"")


def _check(size: int, limit: int, arrived: Callable[[int], None] | None) -> None:
    if size > limit:
        raise BodyTooLarge(limit)
    if arrived is not None:
        arrived(size)


class _Begun(Generic[T]):
    """Something awaited that was run until it first had to wait; to be awaited for the rest.

    `result` is there when it did not have to wait at all.
    """

    def __init__(self, awaited: Awaitable[T]) -> None:
        self.result: T | None = None
        self._steps = awaited.__await__()
        self._waits_for: Any = None
        try:
            self._waits_for = next(self._steps)
        except StopIteration as done:
            self.result = done.value

    def __await__(self) -> Generator[Any, Any, T]:
        if self.result is not None:
            return self.result
        while True:
            try:
                answer = yield self._waits_for
            except BaseException as error:
                step = partial(self._steps.throw, error)
            else:
                step = partial(self._steps.send, answer)
            try:
                self._waits_for = step()
            except StopIteration as done:
                return done.value
