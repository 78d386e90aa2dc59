"""Rate limits: requests per account, and failed authentication attempts per client address.

Both are sliding windows in this process's memory, the second the `limits` package's; a restart resets them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import time
from collections import deque
from collections.abc import AsyncGenerator

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from kurir.accounts.sliding_windows import Allowance, SlidingWindows
from kurir.settings import SettingsError

_LONGEST_WAIT = 2.0
"""Seconds that an attempt waits for others of its source that are in progress."""


class RequestLimit:
    """Requests per account. Fails open: after a restart the counts start at zero."""

    def __init__(self, notation: str) -> None:
        """`notation` as in `50/second;1000/minute`. Raises SettingsError."""
        self._windows = SlidingWindows(_parsed("rate_limit", notation))

    def take(self, account_id: int, group: str, now: float) -> Allowance:
        """Counts one request of the account at `now` (unix seconds); see `SlidingWindows.take`.

        Requests of another `group` are counted separately, against limits of the same size.
        """
        return self._windows.take((account_id, group), now)


class Blocked(Exception):  # noqa: N818 - a refusal
    """There were too many failed attempts; `seconds` until the next one is allowed."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many wrong tries: {seconds} s")
        self.seconds = seconds


class Attempt:
    """An attempt in progress. It counts as failed unless one of these methods is called before it ends."""

    def __init__(self) -> None:
        self.wrong = True

    def right(self) -> None:
        """The attempt was right: it is not counted."""
        self.wrong = False

    def not_looked_at(self) -> None:
        """The attempt was not checked (the database was away): it is not counted."""
        self.wrong = False


class FailedKeys:
    """Failed attempts with keys, passwords or signatures per source. Fails closed: beyond the limit nothing is checked.

    An attempt is counted before it is checked, so that a hundred at once allow no more than a hundred in a row: a
    source has never more attempts in progress than it has left. Further ones wait for their turn: those in progress may
    be right.
    """

    def __init__(self, notation: str, setting: str = "failed_key_limit", *, times: int = 1) -> None:
        """`notation` as in `30/minute`, multiplied by `times`. Raises SettingsError naming `setting`."""
        self._items = [type(item)(item.amount * times, item.multiples) for item in _parsed(setting, notation)]
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._under_way: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @contextlib.asynccontextmanager
    async def attempt(self, source: str) -> AsyncGenerator[Attempt]:
        """An attempt of `source` (see `source_of`), as soon as one is available. Raises Blocked."""
        await self._admitted(source)
        found = Attempt()
        try:
            yield found
        finally:
            self._under_way[source] -= 1
            if not self._under_way[source]:
                del self._under_way[source]
            if found.wrong:
                for item in self._items:
                    self._limiter.hit(item, source)
            self._next(source)

    def blocked_for(self, source: str) -> int:
        """Seconds for which the source is refused; 0 when it may try."""
        waits = [
            math.ceil(self._limiter.get_window_stats(item, source).reset_time - time.time())
            for item in self._items
            if not self._limiter.test(item, source)
        ]
        return max([1, *waits]) if waits else 0

    async def _admitted(self, source: str) -> None:
        while True:
            if seconds := self.blocked_for(source):
                self._next(source)  # the next waiter must be notified as well
                raise Blocked(seconds)
            under_way = self._under_way.get(source, 0)
            if all(self._limiter.test(item, source, cost=under_way + 1) for item in self._items):
                self._under_way[source] = under_way + 1
                return
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            queue = self._waiting.setdefault(source, deque())
            queue.append(turn)
            try:
                async with asyncio.timeout(_LONGEST_WAIT):
                    await turn
            except TimeoutError:
                raise Blocked(1) from None
            finally:
                if not turn.done():
                    turn.cancel()

    def _next(self, source: str) -> None:
        queue = self._waiting.get(source)
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                break
        if queue is not None and not queue:
            del self._waiting[source]


def source_of(address: str) -> str:
    """The source that a client address counts as: itself, or for IPv6 its /64, which one customer usually owns."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))


def _parsed(setting: str, notation: str) -> list[RateLimitItem]:
    try:
        return parse_many(notation)
    except ValueError as error:
        raise SettingsError(
            f"KURIR_{setting.upper()}: expected limits such as 50/second;1000/minute, got {notation!r}"
        ) from error
