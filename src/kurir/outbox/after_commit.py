"""What follows in this process after a commit: counts, waiters for a verdict, and whoever else is to be notified."""

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
        """From now on so many messages of each account are queued or in flight."""
        self._waiting = Counter(waiting)

    def waiting(self, account_id: int) -> int:
        """The account's messages that are queued or in flight."""
        return self._waiting[account_id]

    def waiting_in_all(self) -> int:
        """Messages of all accounts that are queued or in flight."""
        return self._waiting.total()

    def queued(self, account_id: int, count: int = 1) -> None:
        """So many more messages wait."""
        self._waiting[account_id] += count

    def expired(self, rows: Sequence[Any]) -> None:
        """These rows (with `account_id`) left the queue by themselves."""
        for row in rows:
            self._waiting[row.account_id] -= 1

    def moved(self, message: Snapshot, *, left_queue: bool) -> None:
        """A message has moved; `left_queue` when it was queued or in flight and is no more."""
        if left_queue:
            self._waiting[message.account_id] -= 1
        self._metrics.reached(message.state)
        if message.state in SETTLED and not self.waiters.resolve(message):
            self._settled_elsewhere(message.account_id, message.id)

    def ended(self, account_id: int, message_id: int) -> None:
        """A message of which only the id is known ended; its waiters have been looked after."""
        self._settled_elsewhere(account_id, message_id)
