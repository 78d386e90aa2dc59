"""Waiting for a verdict: whoever sent with `sync` learns what became of a message as soon as it is settled.

The waiters live in this process; a message that another process settles is found when the wait is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kurir.messages.lifecycle import SETTLED
from kurir.outbox.rows import Snapshot


class Verdicts:
    """Who waits for which message."""

    def __init__(self) -> None:
        self._waiters: dict[int, list[asyncio.Future[Snapshot]]] = {}
        self._dismissed = False

    def awaited(self, message_id: int) -> bool:
        """Whether anybody waits for this message."""
        return message_id in self._waiters

    def tell(self, message: Snapshot) -> None:
        """The message is settled: its waiters get it."""
        for future in self._waiters.pop(message.id, []):
            if not future.done():
                future.set_result(message)

    async def wait(
        self,
        message_id: int,
        timeout: float,  # noqa: ASYNC109 - running out is an answer here, not an error
        look: Callable[[], Awaitable[Snapshot | None]],
    ) -> Snapshot:
        """Waits until the message is settled, `timeout` seconds at most; returns where it stands then.

        `look` reads where the message stands. Raises KeyError when it finds none.
        """
        future: asyncio.Future[Snapshot] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(message_id, []).append(future)  # before the look, so that nothing slips between
        try:
            now = await look()
            if now is None:
                raise KeyError(message_id)
            if now.state in SETTLED or self._dismissed:
                return now
            done, _ = await asyncio.wait({future}, timeout=timeout)
            if done and not future.cancelled():
                return future.result()
            return await look() or now
        finally:
            left = self._waiters.get(message_id, [])
            if future in left:
                left.remove(future)
            if not left:
                self._waiters.pop(message_id, None)

    def dismiss(self) -> None:
        """At the stop: whoever waits learns where the message stands, and nobody waits any more."""
        self._dismissed = True
        for futures in self._waiters.values():
            for future in futures:
                if not future.done():
                    future.cancel()
