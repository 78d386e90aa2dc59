"""Routes what a commit sets off to the lane, waiter or deliverer it concerns, in this process or at another gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from kurir.dispatch.dispatcher import Dispatcher
from kurir.events.feed import Feed
from kurir.kit.tasks import TaskHealth, Tasks
from kurir.leases import Leases
from kurir.outbox.outbox import Outbox
from kurir.store.database import Database, DatabaseUnavailable
from kurir.store.pg_notify import Notification, NotifyChannel

_LAST_LOOKS = 3.0
"""Seconds that look-ups in progress may take at shutdown."""

log = structlog.get_logger(__name__)


class Notifier:
    """Routes post-commit notifications; `leases` only where several gateways share the database.

    `dispatcher`, `outbox` and `deliverer` (its `wake`, None when another process delivers) are set after construction;
    until then each of them polls at its own start. `feed` has the readers of the event log.
    """

    def __init__(
        self, database: Database, leases: Leases | None, health: TaskHealth | None = None, *, feed: Feed
    ) -> None:
        self._feed = feed
        self.dispatcher: Dispatcher | None = None
        self.outbox: Outbox | None = None
        self.deliverer: Callable[[], None] | None = None
        self._leases = leases
        self._channel = NotifyChannel(database, self._heard, health) if leases is not None else None
        self._tasks = Tasks(health)

    def start(self) -> None:
        """Starts listening to other gateways, where there may be any."""
        if self._channel is not None:
            self._channel.start()

    async def close(self) -> None:
        """Sends pending notifications, then stops listening."""
        if self._channel is not None:
            await self._channel.close()
        await self._tasks.close(_LAST_LOOKS)

    def number_due(self, account_id: int, number_id: int) -> None:
        """The number may have something to send, or may have become ready."""
        if self._leases is not None and self._leases.hold(number_id) is None:
            self._send(Notification("number", account_id, number_id))
        elif self.dispatcher is not None:
            self.dispatcher.wake(account_id, number_id)

    def appended(self, accounts: Iterable[int]) -> None:
        """These accounts have new events: notifies readers here at once, and at other gateways soon."""
        self._publish(accounts)
        for account_id in accounts:
            self._send(Notification("events", account_id))

    def settled(self, account_id: int, message_id: int) -> None:
        """A message reached a final state; a caller at another gateway may wait for it."""
        self._send(Notification("settled", account_id, message_id))

    def released(self) -> None:
        """Numbers were released: the other gateways should check the leases."""
        self._send(Notification("leases"))

    # -- inside ----------------------------------------------------------------------------------------------------

    def _publish(self, accounts: Iterable[int]) -> None:
        self._feed.publish(accounts)
        if self.deliverer is not None:
            self.deliverer()

    def _send(self, notify: Notification) -> None:
        if self._channel is not None:
            self._channel.notify(notify)

    def _heard(self, notify: Notification) -> None:
        match notify.about:
            case "number":
                if self.dispatcher is not None:
                    self.dispatcher.wake(notify.account_id, notify.id)
            case "settled":
                if self.outbox is not None and self.outbox.awaits(notify.id):
                    self._tasks.spawn("look-at-message", self._look_at(self.outbox, notify), key=str(notify.id))
            case "events":
                self._publish([notify.account_id])
            case "leases":
                if self._leases is not None:
                    self._leases.look()

    @staticmethod
    async def _look_at(outbox: Outbox, notify: Notification) -> None:
        try:
            await outbox.look_at(notify.account_id, notify.id)
        except DatabaseUnavailable as error:
            log.warning("database_unavailable", task="outcome_wait", reason=str(error))
