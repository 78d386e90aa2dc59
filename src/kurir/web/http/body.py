"""A request's body, bounded in size and time, for every part of the gateway that reads one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
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
    steps, message, waits_for = receive().__await__(), None, None
    try:
        waits_for = next(steps)
    except StopIteration as done:
        message = done.value
        if not message.get("more_body", False):  # it came with its head: nothing to wait for, no timer
            body = _piece(message)
            _check(len(body), limit, arrived)
            return bytes(body)
    seconds = TIMEOUT if timeout is None else timeout
    try:
        async with asyncio.timeout(seconds):
            if message is None:
                message = await _Rest(steps, waits_for)
            body = bytearray()
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


class _Rest(Generic[T]):
    """The rest of something awaited that was run until it first had to wait, for `waits_for`."""

    def __init__(self, steps: Generator[Any, Any, T], waits_for: Any) -> None:
        self._steps = steps
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, T]:
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
