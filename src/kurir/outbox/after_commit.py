"""The effects of a commit in this process: counts, waiters for an outcome, and other notifications."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kurir.kit.metrics import Metrics
from kurir.messages.lifecycle import SETTLED
from kurir.outbox.message_rows import Snapshot
from kurir.outbox.settlement_waiters import SettlementWaiters


class Effects:
    """Applied by the outbox after each commit, never within a transaction.

    `settled_elsewhere` is called with (account_id, message_id) when a message is settled and nobody in this process
    waits for that.
    """

    def __init__(
        self,
        metrics: Metrics,
        settled_elsewhere: Callable[[int, int], None],
        *,
        shared: bool,
    ) -> None:
        self.waiters = SettlementWaiters(shared=shared)
        self._metrics = metrics
        self._settled_elsewhere = settled_elsewhere
        self._waiting: Counter[int] = Counter()

    def count(self, waiting: Mapping[int, int]) -> None:
        """Sets how many messages of each account are queued or in flight."""
        self._waiting = Counter(waiting)

    def waiting(self, account_id: int) -> int:
        """The account's messages that are queued or in flight."""
        return self._waiting[account_id]

    def waiting_in_all(self) -> int:
        """Messages of all accounts that are queued or in flight."""
        return self._waiting.total()

    def queued(self, account_id: int, count: int = 1) -> None:
        """Counts newly queued messages."""
        self._waiting[account_id] += count

    def expired(self, rows: Sequence[Any]) -> None:
        """Counts rows (with `account_id`) that left the queue by expiry."""
        for row in rows:
            self._waiting[row.account_id] -= 1

    def moved(self, message: Snapshot, *, left_queue: bool) -> None:
        """Handles a message's move; `left_queue`: it was queued or in flight and is no more."""
        if left_queue:
            self._waiting[message.account_id] -= 1
        self._metrics.reached(message.state)
        if message.state in SETTLED and not self.waiters.resolve(message):
            self._settled_elsewhere(message.account_id, message.id)

    def ended(self, account_id: int, message_id: int) -> None:
        """Handles the end of a message of which only the id is known, after its waiters."""
        self._settled_elsewhere(account_id, message_id)
