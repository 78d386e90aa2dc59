"""Notifications between gateways on one PostgreSQL (LISTEN and NOTIFY), so that work accepted by one is sent by another
at once.

Nothing depends on them: a lost notification delays the work until the other gateway's next poll.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Literal

import msgspec
import sqlalchemy as sa
import structlog

from kurir.kit.backoff import Backoff
from kurir.kit.tasks import TaskHealth, Tasks
from kurir.store.database import Database, DatabaseUnavailable

_CHANNEL = "kurir"
_GATHERED = 0.02
"""Seconds in which notifications are collected into one NOTIFY."""
_AT_ONCE = 200
"""Notifications in one NOTIFY, whose payload may have 8,000 bytes."""
_AGAIN_FIRST, _AGAIN_MOST = 0.5, 5.0
_LAST_NOTIFIED = 3.0
"""Seconds that the last notifications may take at shutdown."""
_NOTIFY = sa.text("SELECT pg_notify(:channel, :notifications)")

log = structlog.get_logger(__name__)


class Notification(msgspec.Struct, frozen=True, array_like=True):
    """A kind of notification. number: it may have something to send · settled: a message is · events: the account has
    new ones · leases: numbers were released. `id` is the number's or the message's."""

    about: Literal["number", "settled", "events", "leases"]
    account_id: int = 0
    id: int = 0


class NotifyChannel:
    """Sends notifications to all gateways on the database, this one included; `heard` is called for each one
    received."""

    def __init__(
        self, database: Database, heard: Callable[[Notification], None], health: TaskHealth | None = None
    ) -> None:
        self._database = database
        self._heard = heard
        self._waiting: set[Notification] = set()
        self._sending: asyncio.Task[None] | None = None
        self._tasks = Tasks(health)

    def start(self) -> None:
        """Starts to listen, and listens again whenever the connection is lost."""
        self._tasks.keep("listen", self._listen, endless=True)

    def notify(self, notify: Notification) -> None:
        """Queues a notification for all gateways."""
        self._waiting.add(notify)
        if self._sending is None or self._sending.done():
            self._sending = self._tasks.spawn("notify", self._send())

    async def close(self) -> None:
        """Sends what is queued and stops listening."""
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=_LAST_NOTIFIED)
        await self._tasks.close()

    async def _send(self) -> None:
        await asyncio.sleep(_GATHERED)
        while self._waiting:
            notifications = [self._waiting.pop() for _ in range(min(len(self._waiting), _AT_ONCE))]
            parameters = {"channel": _CHANNEL, "notifications": msgspec.json.encode(notifications).decode()}
            with contextlib.suppress(DatabaseUnavailable):
                await self._database.write(lambda c, parameters=parameters: c.execute(_NOTIFY, parameters) and None)

    async def _listen(self) -> None:
        import psycopg  # noqa: PLC0415 - on SQLite nobody listens, and nobody needs the driver

        from kurir.store.postgres import listening_address  # noqa: PLC0415

        address = listening_address(str(self._database.where))
        backoff = Backoff(_AGAIN_FIRST, _AGAIN_MOST)
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(address, autocommit=True)
                async with connection:
                    await connection.execute(f"LISTEN {_CHANNEL}")
                    backoff.reset()
                    async for notification in connection.notifies():
                        self._hear(notification.payload)
            except (psycopg.Error, OSError) as error:
                log.warning("listen_failed", reason=str(error))
            await asyncio.sleep(backoff.after_failure())

    def _hear(self, payload: str) -> None:
        try:
            notifications = msgspec.json.decode(payload, type=list[Notification])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            log.warning("notification_invalid", payload=payload[:100])
            return
        for notify in notifications:
            self._heard(notify)
