"""The inbox: stores messages, receipts, connection changes and template reviews with their entries in the event log,
and acts on them after the commit.

It takes callbacks of the Cloud API and the event stream of linked devices. Storing twice is harmless: messages are
unique per (number, chat, id), callbacks per fingerprint, and receipts only move a message up.

More than 300 lines: storing an event, and what follows when that fails, event by event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import assert_never

import msgspec
import structlog
from sqlalchemy import Connection

from kurir.channels.channel import Channel
from kurir.inbox.event_storage import store_callback, store_media, store_message
from kurir.inbox.quarantine_entries import payload_of, reference_of
from kurir.inbox.raw_callbacks import RawCallbacks
from kurir.inbox.stream import Stream
from kurir.kit.clock import Clock
from kurir.kit.metrics import Metrics
from kurir.kit.pauses import PAUSES, Pauses
from kurir.kit.tasks import TaskHealth, Tasks
from kurir.leases import Alone, Ownership
from kurir.messages.channel_reports import (
    ConnectionChanged,
    Event,
    MediaFetched,
    Quarantined,
    Received,
    StatusChanged,
    TemplateReviewed,
)
from kurir.numbers import status as number_status
from kurir.outbox.outbox import Outbox, Receipt
from kurir.quarantine import quarantine
from kurir.quarantine.quarantine import Queue
from kurir.reasons import stored
from kurir.reasons.media import GONE_NOT_STORED
from kurir.store.database import Database, DatabaseUnavailable
from kurir.templates.status import store_review

_STORING = "inbox-store"
"""The name of storing events in health checks, before the events' queue."""
GROUP = 50
"""Maximum events stored in one transaction, so that other writes do not wait long."""
_TRIES = 3
"""Attempts to store one event before it is quarantined."""

log = structlog.get_logger(__name__)


class NotStored(DatabaseUnavailable):
    """These events could be neither stored nor quarantined; all others of their group were."""

    def __init__(self, events: list[Event], reason: Exception) -> None:
        super().__init__(f"{len(events)} events could be neither stored nor quarantined ({type(reason).__name__})")
        self.events = events
        self.reason = reason


class Inbox:
    """Stores events and notifies the outbox and the dispatcher.

    `number_due` is called with (account_id, number_id) when a number has become ready. `ownership`: only the gateway
    that holds a number reports its connection.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        clock: Clock,
        *,
        number_due: Callable[[int, int], None],
        ownership: Ownership | None = None,
        metrics: Metrics | None = None,
        health: TaskHealth | None = None,
        pauses: Pauses = PAUSES,
    ) -> None:
        self._pauses = pauses
        self._health = health or TaskHealth()
        self._metrics = metrics or Metrics()
        self._tasks = Tasks()
        self._streams: dict[Channel, Stream] = {}
        self._ownership = ownership or Alone()
        self._database = database
        self._outbox = outbox
        self._clock = clock
        self._number_due = number_due
        self._raw = RawCallbacks(database)

    async def take(self, events: Sequence[tuple[Event, str]], raw: str = "") -> int:
        """Stores events durably with their effects; those whose fingerprint was stored before are skipped.

        `events` are (event, fingerprint) pairs; "" as fingerprint means the event needs no deduplication of its own.
        `raw` is the callback they came in, as bounded text, kept once. Returns how many were new. Raises
        DatabaseUnavailable.
        """
        now = self._clock()

        def work(connection: Connection) -> tuple[int, list[Receipt], int]:
            receipts: list[Receipt] = []
            new, kept_for = 0, 0
            for event, fingerprint in events:
                # one callback may contain a thousand events: its body is kept once, with the first new one
                number = (event.account_id, event.number_id)
                if fingerprint:
                    if not store_callback(connection, number, fingerprint, "" if kept_for else raw, now):
                        continue
                    kept_for = kept_for or event.account_id
                new += 1
                receipt = self._apply(connection, event, now)
                if receipt is not None:
                    receipts.append(receipt)
            return new, receipts, kept_for

        def stored(result: tuple[int, list[Receipt], int]) -> None:
            if raw and result[2]:
                self._raw.kept(result[2], raw)
            for receipt in result[1]:
                self._outbox.receipt_committed(receipt)
            for event, _ in events:
                if isinstance(event, ConnectionChanged):
                    self._number_due(event.account_id, event.number_id)
                elif isinstance(event, Quarantined):
                    self._metrics.quarantined(event.queue)

        new, _, _ = await self._database.write(work, after_commit=stored)
        return new

    async def take_each(self, events: Sequence[tuple[Event, str]], raw: str = "", queue: Queue = "inbox") -> int:
        """As `take`, in groups; an event that fails a few times by itself is quarantined.

        `queue` is the events' queue, for the quarantine. Raises DatabaseUnavailable, and NotStored when some could be
        neither stored nor quarantined; a repeated call with the same events is harmless.
        """
        try:
            new = await self._take_each(events, raw, queue)
        except NotStored as error:
            self._health.failed(_STORING, queue, error.reason)
            raise
        self._health.recovered(_STORING, queue)
        return new

    async def _take_each(self, events: Sequence[tuple[Event, str]], raw: str, queue: Queue) -> int:
        lost: list[Event] = []
        new, reason = 0, None
        for start in range(0, len(events), GROUP):
            group = events[start : start + GROUP]
            try:
                new += await self.take(group, "" if new else raw)
                continue
            except DatabaseUnavailable:
                raise
            except Exception:
                log.exception("inbox_failed", events=len(group))
            for event, fingerprint in group:
                try:
                    new += await self._take_or_quarantine(event, fingerprint, "" if new else raw, queue)
                except NotStored as error:
                    lost += error.events
                    reason = error.reason
        if reason is not None:
            raise NotStored(lost, reason)
        return new

    async def keep(self, account_id: int, number_id: int, fingerprint: str, raw: str) -> bool:
        """Stores a raw callback with unsupported content; False when it was stored before.

        Raises DatabaseUnavailable.
        """
        now = self._clock()

        def kept(is_new: bool) -> None:
            if is_new:
                self._raw.kept(account_id, raw)

        return await self._database.write(
            lambda c: store_callback(c, (account_id, number_id), fingerprint, raw, now), after_commit=kept
        )

    async def bound_raw(self, account_id: int) -> None:
        """Waits until the account's oldest raw callbacks are gone when it has too many. Raises DatabaseUnavailable."""
        await self._raw.bound(account_id)

    async def follow(self, channel: Channel) -> None:
        """Stores a channel's events in groups until the channel is closed.

        Nothing is dropped: events left when this ended by an exception are stored first by the next call, and events
        that could not be quarantined either stay unacknowledged and are retried beside new ones. Of a number's
        connection states only the latest is retried.
        """
        stream = self._streams.setdefault(channel, Stream())
        if stream.gatherer is None:
            stream.gatherer = self._tasks.spawn("inbox-events", stream.gather(channel))
        try:
            while True:
                if not stream.group:
                    stream.group = await stream.next_group()
                await self._store(channel, stream, [event for event in stream.group if event is not None])
                last = bool(stream.group) and stream.group[-1] is None
                stream.group = []
                if last:
                    break
                await self._store(channel, stream, stream.due())
        except asyncio.CancelledError:
            await self._tasks.close()
            raise
        gatherer, stream.gatherer = stream.gatherer, None
        await gatherer  # raises what ended the events, if the channel failed

    async def _store(self, channel: Channel, stream: Stream, events: list[Event]) -> None:
        """Stores events, however long the database is away; those that cannot be quarantined either are kept."""
        nowhere: list[Event] = []
        while events:
            try:
                await self._take_each([(event, "") for event in events], "", "inbox")
            except NotStored as error:
                nowhere = error.events
                self._health.failed(_STORING, "inbox", error.reason)
            except DatabaseUnavailable as error:
                log.warning("database_unavailable", task="inbox", events=len(events), reason=str(error))
                await asyncio.sleep(self._pauses.after_failure)
                continue
            break
        channel.stored(stream.tried(events, nowhere))
        if not any(one.kept for one in self._streams.values()):
            self._health.recovered(_STORING, "inbox")

    async def _take_or_quarantine(self, event: Event, fingerprint: str, raw: str, queue: Queue) -> int:
        failure: Exception | None = None
        for _ in range(_TRIES):
            try:
                return await self.take([(event, fingerprint)], raw)
            except DatabaseUnavailable:
                raise
            except Exception as error:
                failure = error
        assert failure is not None
        entry = Quarantined(
            account_id=event.account_id,
            number_id=event.number_id,
            queue=queue,
            reference=reference_of(event),
            reason=f"{type(failure).__name__}: {failure}",
            payload=payload_of(event),
        )
        log.error("event_quarantined", kind=type(event).__name__, number_id=event.number_id, exc_info=failure)
        self._metrics.quarantined(queue)
        now = self._clock()
        try:
            await self._database.write(lambda c: quarantine.add(c, entry, now))
        except DatabaseUnavailable:
            raise
        except Exception as error:
            log.critical("event_quarantine_failed", kind=type(event).__name__, number_id=event.number_id, exc_info=True)
            raise NotStored([event], error) from error
        if isinstance(event, MediaFetched):
            await self._give_up_media(event)
        return 0

    async def _give_up_media(self, event: MediaFetched) -> None:
        """Marks media as gone whose result could not be stored, until a replay stores it."""
        media = msgspec.structs.replace(event.media, path="", state="gone", reason=stored(GONE_NOT_STORED()))
        gone, now = msgspec.structs.replace(event, media=media), self._clock()
        try:
            await self._database.write(lambda c: store_media(c, gone, now))
        except DatabaseUnavailable:
            raise
        except Exception:
            log.exception("received_media_failed", number_id=event.number_id)

    def _apply(self, connection: Connection, event: Event, now: float) -> Receipt | None:
        match event:
            case Received():
                store_message(connection, event, now)
            case MediaFetched():
                store_media(connection, event, now)
            case StatusChanged():
                return self._outbox.receipt(connection, event, now)
            case ConnectionChanged() if event.state != "paused" and not self._is_held(connection, event.number_id):
                pass  # a late event of a gateway that no longer holds this number; Meta's callbacks reach any gateway
            case ConnectionChanged():
                number_status.change(connection, event, now)
            case TemplateReviewed():
                store_review(connection, event, now)
            case Quarantined():
                quarantine.add(connection, event, now)
                if event.fetch is not None:
                    store_media(connection, event.fetch, now)
            case _:
                assert_never(event)
        return None

    def _is_held(self, connection: Connection, number_id: int) -> bool:
        hold = self._ownership.hold(number_id)
        return hold is not None and hold.guard(connection)
