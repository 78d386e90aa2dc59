"""How much callers may ask: requests per account, and wrong keys per client address.

The counting is the `limits` package's sliding window; its store is this process's memory, so a restart forgets.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from kurir.settings import SettingsError


@dataclass(frozen=True, slots=True)
class Allowance:
    """Where a caller stands with the tightest of its limits. `reset` is whole seconds until room is there again."""

    allowed: bool
    limit: int
    remaining: int
    reset: int

    def headers(self) -> dict[str, str]:
        """`RateLimit-*` of every answer, and `Retry-After` when the request was refused."""
        found = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset),
        }
        if not self.allowed:
            found["Retry-After"] = str(self.reset)
        return found


class RequestLimit:
    """Requests per account. Fails open: after a restart the counts begin anew, and no request is refused for it."""

    def __init__(self, notation: str) -> None:
        """`notation` as in `50/second;1000/minute`. Raises SettingsError."""
        self._items = _parsed("rate_limit", notation)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def take(self, account_id: int) -> Allowance:
        """Counts one request of the account; a refused one is not counted against the limits that follow."""
        who = str(account_id)
        tightest: Allowance | None = None
        for item in self._items:
            allowed = self._limiter.hit(item, who)
            found = self._allowance(item, who, allowed)
            if not allowed:
                return found
            if tightest is None or found.remaining < tightest.remaining:
                tightest = found
        assert tightest is not None, "a parsed notation has at least one limit"
        return tightest

    def _allowance(self, item: RateLimitItem, who: str, allowed: bool) -> Allowance:
        reset_at, remaining = self._limiter.get_window_stats(item, who)
        wait = max(1, math.ceil(reset_at - time.time()))
        return Allowance(allowed, item.amount, remaining if allowed else 0, wait)


class FailedKeys:
    """Wrong credentials per client address. Fails closed: past the limit an address is refused without a look."""

    def __init__(self, notation: str) -> None:
        """`notation` as in `30/minute`. Raises SettingsError."""
        self._items = _parsed("failed_key_limit", notation)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def blocked_for(self, address: str) -> int:
        """Seconds for which the address is refused; 0 when it may try."""
        waits = [
            math.ceil(self._limiter.get_window_stats(item, address).reset_time - time.time())
            for item in self._items
            if not self._limiter.test(item, address)
        ]
        return max([1, *waits]) if waits else 0

    def note(self, address: str) -> None:
        """Counts one wrong credential of the address."""
        for item in self._items:
            self._limiter.hit(item, address)


def _parsed(setting: str, notation: str) -> list[RateLimitItem]:
    try:
        return parse_many(notation)
    except ValueError as error:
        raise SettingsError(
            f"KURIR_{setting.upper()}: expected limits such as 50/second;1000/minute, got {notation!r}"
        ) from error
