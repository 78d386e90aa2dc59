"""Waiters for outcomes: callers that sent with `sync` get a message's state as soon as it is settled.

The waiters are in this process; other gateways that settle a message send a notification (`look_at` in the outbox), and
as that may get lost, the message is polled now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kurir.messages.lifecycle import SETTLED
from kurir.outbox.message_rows import Snapshot

_LASTING = frozenset({"sent", "delivered", "read"})
EXPECTED = 10_000
"""How many accepted messages are remembered until somebody waits for them."""
_LOOK = 2.0
"""Seconds between two polls of a message that another gateway may be sending."""


class SettlementWaiters:
    """The waiters of each message."""

    def __init__(self, *, shared: bool = False) -> None:
        self._shared = shared
        self._waiters: dict[int, list[asyncio.Future[Snapshot]]] = {}
        self._expected: dict[int, Snapshot | None] = {}
        """Messages that somebody is about to wait for, with their state once they are settled."""
        self._dismissed = False

    @property
    def dismissed(self) -> bool:
        """Whether waiting has ended because the process stops."""
        return self._dismissed

    def expect(self, message_id: int) -> None:
        """Remembers a message that has just been accepted: whoever waits for it soon need not look it up, as nothing
        that happens to it is missed."""
        self._expected[message_id] = None
        if len(self._expected) > EXPECTED:
            del self._expected[next(iter(self._expected))]

    def awaited(self, message_id: int) -> bool:
        """Whether anybody waits for this message."""
        return message_id in self._waiters or message_id in self._expected

    def resolve(self, message: Snapshot) -> bool:
        """Passes a settled message to its waiters; returns whether there were any."""
        if message.id in self._expected:
            self._expected[message.id] = message
            return True
        waiters = self._waiters.pop(message.id, [])
        for future in waiters:
            if not future.done():
                future.set_result(message)
        return bool(waiters)

    async def wait(
        self,
        message_id: int,
        timeout: float,
        look: Callable[[], Awaitable[Snapshot | None]],
    ) -> Snapshot:
        """Waits until the message is settled, `timeout` seconds at most; returns where it stands then.

        `look` reads where the message stands. Raises KeyError when it finds none.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        expected = message_id in self._expected
        if (settled := self._expected.pop(message_id, None)) is not None:
            if settled.state in _LASTING:
                return settled
            expected = False  # meanwhile it may have been queued again
        future: asyncio.Future[Snapshot] = loop.create_future()
        self._waiters.setdefault(message_id, []).append(future)  # before the read, so that no change is missed
        try:
            now = None
            if not expected or self._dismissed:
                now = await look()
                if now is None:
                    raise KeyError(message_id)
                if now.state in SETTLED or self._dismissed:
                    return now
            now = await self._settled(future, now, deadline, look)
            if now is None:
                raise KeyError(message_id)
            return now
        finally:
            left = self._waiters.get(message_id, [])
            if future in left:
                left.remove(future)
            if not left:
                self._waiters.pop(message_id, None)

    async def _settled(
        self,
        future: asyncio.Future[Snapshot],
        message: Snapshot | None,
        deadline: float,
        look: Callable[[], Awaitable[Snapshot | None]],
    ) -> Snapshot | None:
        loop = asyncio.get_running_loop()
        while True:
            left = max(0.0, deadline - loop.time())
            done, _ = await asyncio.wait({future}, timeout=min(left, _LOOK) if self._shared else left)
            if done and not future.cancelled():
                return future.result()
            message = await look() or message
            if done or message is None or message.state in SETTLED or loop.time() >= deadline:
                return message

    def dismiss(self) -> None:
        """Ends all waiting at the stop: waiters get their message's present state."""
        self._dismissed = True
        for futures in self._waiters.values():
            for future in futures:
                if not future.done():
                    future.cancel()
