"""What comes in: messages, receipts, connection changes, template reviews. Stored first, acted on after the commit;
what webhooks have to tell of it is stored with it.

Both channels end here: callbacks of the Cloud API as they are posted, events of linked devices as their stream gives
them. Storing twice is harmless: messages are unique per (number, chat, id), callbacks per fingerprint, and receipts
only move a message up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, assert_never

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy import Connection

from kurir import number_status, numbers, quarantine
from kurir.channels.channel import Channel
from kurir.foundation.clock import Clock
from kurir.foundation.database import Database, DatabaseUnavailable
from kurir.foundation.inserts import insert_into
from kurir.foundation.tables import callbacks, incoming, templates, windows
from kurir.foundation.tasks import Tasks
from kurir.foundation.telemetry import Metrics
from kurir.leases import Alone, Ownership
from kurir.messages.reports import (
    ConnectionChanged,
    Event,
    IncomingMedia,
    MediaFetched,
    Received,
    SetAside,
    StatusChanged,
    TemplateReviewed,
)
from kurir.outbox import restrictions
from kurir.outbox.outbox import Outbox, Receipt
from kurir.quarantine import Queue
from kurir.webhooks.deliveries import publish
from kurir.webhooks.events import MediaStatus, TemplateStatus, media_status, received

WINDOW = 24 * 3600.0
"""Seconds of the customer service window after a person's last message (Cloud API)."""

_GROUP = 500
_WAITING = 2_000

_TRIES = 3
"""How often one event is tried before it is set aside."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Event).decode

log = structlog.get_logger(__name__)


class _Stream:
    """A channel's events on their way into the database; outlives a failure of whoever stores them."""

    def __init__(self) -> None:
        self.group: list[Event | None] = []
        self.gatherer: asyncio.Task[None] | None = None
        self._waiting: asyncio.Queue[Event | None] = asyncio.Queue(_WAITING)

    async def gather(self, channel: Channel) -> None:
        """Takes the channel's events until it is closed; None stands for the end."""
        try:
            async for event in channel.events():
                await self._waiting.put(event)
        finally:
            await self._waiting.put(None)

    async def next_group(self) -> list[Event | None]:
        """What waits, at least one."""
        group = [await self._waiting.get()]
        while len(group) < _GROUP and not self._waiting.empty():
            group.append(self._waiting.get_nowait())
        return group


class Inbox:
    """Stores events and tells the outbox and the dispatcher what follows.

    `woken` is called with (account_id, number_id) when a number has become ready, `told` after a commit of which
    webhooks may have to tell. `ownership`: only the gateway that carries a number says how it is connected.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        clock: Clock,
        *,
        woken: Callable[[int, int], None],
        told: Callable[[], None] = lambda: None,
        ownership: Ownership | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._tasks = Tasks()
        self._streams: dict[Channel, _Stream] = {}
        self._ownership = ownership or Alone()
        self._database = database
        self._outbox = outbox
        self._clock = clock
        self._woken = woken
        self._told = told

    async def take(self, events: Sequence[tuple[Event, str]], body: bytes = b"") -> int:
        """Stores events durably with their effects; those whose fingerprint was stored before are skipped.

        `events` are (event, fingerprint) pairs; "" as fingerprint means the event needs no deduplication of its own.
        `body` is the raw callback they came in, kept once. Returns how many were new. Raises DatabaseUnavailable.
        """
        now = self._clock()

        def work(connection: Connection) -> tuple[int, list[Receipt]]:
            new, receipts = 0, []
            for event, fingerprint in events:
                # one callback may carry a thousand events: its body is kept once, with the first new one
                number = (event.account_id, event.number_id)
                if fingerprint and not _first_time(connection, number, fingerprint, b"" if new else body, now):
                    continue
                new += 1
                receipt = self._apply(connection, event, now)
                if receipt is not None:
                    receipts.append(receipt)
            return new, receipts

        def stored(result: tuple[int, list[Receipt]]) -> None:
            self._told()
            for receipt in result[1]:
                self._outbox.told(receipt)
            for event, _ in events:
                if isinstance(event, ConnectionChanged):
                    self._woken(event.account_id, event.number_id)
                elif isinstance(event, SetAside):
                    self._metrics.set_aside(event.queue)

        new, _ = await self._database.write(work, after_commit=stored)
        return new

    async def take_each(self, events: Sequence[tuple[Event, str]], body: bytes = b"", queue: Queue = "inbox") -> int:
        """As `take`; an event that cannot be stored, tried by itself a few times, goes to the quarantine instead.

        `queue` is where the events waited, for the quarantine. Raises DatabaseUnavailable; whoever calls again with the
        same events changes nothing.
        """
        try:
            return await self.take(events, body)
        except DatabaseUnavailable:
            raise
        except Exception:
            log.exception("events_not_stored", events=len(events))
        return sum([await self._take_or_set_aside(event, fingerprint, body, queue) for event, fingerprint in events])

    async def keep(self, account_id: int, number_id: int, fingerprint: str, body: bytes) -> bool:
        """Keeps a raw callback of which something was not understood; False when it was kept before.

        Raises DatabaseUnavailable.
        """
        now = self._clock()
        return await self._database.write(lambda c: _first_time(c, (account_id, number_id), fingerprint, body, now))

    async def follow(self, channel: Channel) -> None:
        """Stores a channel's events as they come, in groups, until the channel is closed.

        Nothing is dropped: what could not be stored when this ended by an exception is stored first by the next call.
        """
        stream = self._streams.setdefault(channel, _Stream())
        if stream.gatherer is None:
            stream.gatherer = self._tasks.spawn("inbox-events", stream.gather(channel))
        try:
            while True:
                if not stream.group:
                    stream.group = await stream.next_group()
                events = [event for event in stream.group if event is not None]
                await self._store(events)
                last = stream.group[-1] is None
                stream.group = []
                channel.stored(events)
                if last:
                    break
        except asyncio.CancelledError:
            await self._tasks.close()
            raise
        gatherer, stream.gatherer = stream.gatherer, None
        await gatherer  # what ended the events: the channel's close, or its failure

    async def _store(self, group: list[Event]) -> None:
        while True:
            try:
                await self.take_each([(event, "") for event in group])
            except DatabaseUnavailable as error:
                log.warning("inbox_waits_for_database", events=len(group), reason=str(error))
                await asyncio.sleep(1.0)
            else:
                return

    async def _take_or_set_aside(self, event: Event, fingerprint: str, body: bytes, queue: Queue) -> int:
        failure: Exception | None = None
        for _ in range(_TRIES):
            try:
                return await self.take([(event, fingerprint)], body)
            except DatabaseUnavailable:
                raise
            except Exception as error:
                failure = error
        assert failure is not None
        entry = SetAside(
            account_id=event.account_id,
            number_id=event.number_id,
            queue=queue,
            reference=_reference(event),
            reason=f"{type(failure).__name__}: {failure}",
            payload=_payload(event),
        )
        log.error("event_set_aside", kind=type(event).__name__, number_id=event.number_id, exc_info=failure)
        self._metrics.set_aside(queue)
        now = self._clock()
        try:
            await self._database.write(lambda c: quarantine.set_aside(c, entry, now))
        except DatabaseUnavailable:
            raise
        except Exception:
            log.critical("event_lost", kind=type(event).__name__, number_id=event.number_id, exc_info=True)
        return 0

    def _apply(self, connection: Connection, event: Event, now: float) -> Receipt | None:
        match event:
            case Received():
                if _store_message(connection, event, now):
                    publish(
                        connection,
                        event.account_id,
                        event.number_id,
                        "incoming_chat",
                        event.chat,
                        body=lambda: received(event),
                        now=now,
                    )
            case MediaFetched():
                _note_media(connection, event, now)
            case StatusChanged():
                return self._outbox.receipt(connection, event, now)
            case ConnectionChanged() if event.state != "paused" and not self._carried(connection, event.number_id):
                pass  # an afterthought of a gateway that carries this number no more; Meta's word comes to any of them
            case ConnectionChanged():
                number_status.change(connection, event, now)
            case TemplateReviewed():
                reviewed = connection.execute(
                    templates.update()
                    .where(
                        templates.c.account_id == event.account_id,
                        templates.c.number_id == event.number_id,
                        templates.c.meta_id == event.meta_id,
                    )
                    .values(status=event.status, rejected_reason=event.reason, updated_at=now)
                    .returning(templates.c.key, templates.c.name, templates.c.language)
                ).first()
                if reviewed is not None:
                    _tell_of_template(connection, reviewed, event, now)
            case SetAside():
                quarantine.set_aside(connection, event, now)
            case _:
                assert_never(event)
        return None

    def _carried(self, connection: Connection, number_id: int) -> bool:
        hold = self._ownership.hold(number_id)
        return hold is not None and hold.guard(connection)


def _reference(event: Event) -> str:
    """What names an event among those of its number: the same for the same event when it comes again."""
    match event:
        case Received():
            return f"{event.chat}/{event.remote_id}"
        case MediaFetched():
            return f"{event.chat}/{event.remote_id}/media"
        case StatusChanged():
            return f"{event.remote_id}/{event.status}/{event.person}"
        case ConnectionChanged():
            return f"{event.state}/{event.at}"
        case TemplateReviewed():
            return f"{event.meta_id}/{event.status}"
        case SetAside():
            return event.reference
        case _:
            assert_never(event)


def _payload(event: Event) -> bytes:
    """The event as `event_of` reads it; one that cannot be written so is kept as people read it."""
    try:
        return _encode(event)
    except (UnicodeEncodeError, OverflowError, msgspec.MsgspecError):
        return repr(event).encode("utf-8", "backslashreplace")


def event_of(payload: bytes) -> Event:
    """The event in the payload of a quarantine entry of the queue `inbox` or `callback`. Raises MsgspecError."""
    return _decode(payload)


def window_open_until(connection: Connection, account_id: int, number_id: int, person: str) -> float | None:
    """When the customer service window between an official number and a person closes; None when it never opened."""
    row = connection.execute(
        windows.select().where(
            windows.c.account_id == account_id, windows.c.number_id == number_id, windows.c.person == person
        )
    ).first()
    return row.last_incoming_at + WINDOW if row else None


def _first_time(connection: Connection, number: tuple[int, int], fingerprint: str, body: bytes, now: float) -> bool:
    result = connection.execute(
        insert_into(connection, callbacks)
        .values(
            account_id=number[0],
            number_id=number[1],
            fingerprint=fingerprint,
            body=body.decode("utf-8", "replace"),
            stored_at=now,
        )
        .on_conflict_do_nothing()
        .returning(callbacks.c.id)
    )
    return result.first() is not None


def _tell_of_template(connection: Connection, template: Any, event: TemplateReviewed, now: float) -> None:
    def body() -> TemplateStatus:
        number = numbers.by_id(connection, event.account_id, event.number_id)
        return TemplateStatus(
            template_id=template.key,
            templateId=event.meta_id,
            number_id=number.key if number else "",
            name=template.name,
            language=template.language,
            status=event.status,
            reason=event.reason,
            timestamp=int(now),
        )

    publish(connection, event.account_id, event.number_id, "template_status", "", body=body, now=now)


def _note_media(connection: Connection, event: MediaFetched, now: float) -> None:
    """Writes down what became of a message's media, once; a message that was removed meanwhile has none."""
    before = connection.execute(
        sa.select(incoming.c.id, incoming.c.media).where(
            incoming.c.number_id == event.number_id,
            incoming.c.chat == event.chat,
            incoming.c.remote_id == event.remote_id,
            incoming.c.account_id == event.account_id,
        )
    ).first()
    if before is None or not before.media:
        return
    if msgspec.json.decode(before.media, type=IncomingMedia).state != "pending":
        return
    media = msgspec.json.encode(event.media).decode()
    connection.execute(incoming.update().where(incoming.c.id == before.id).values(media=media))

    def body() -> MediaStatus:
        number = numbers.by_id(connection, event.account_id, event.number_id)
        return media_status(event, number.key if number else "", now)

    publish(
        connection,
        event.account_id,
        event.number_id,
        "media_status",
        event.chat,
        body=body,
        now=now,
    )


def _store_message(connection: Connection, event: Received, now: float) -> bool:
    """Stores a message, its window with it; returns whether it is new."""
    stored = connection.execute(
        insert_into(connection, incoming)
        .values(
            account_id=event.account_id,
            number_id=event.number_id,
            remote_id=event.remote_id,
            chat=event.chat,
            sender=event.sender,
            sender_name=event.sender_name,
            at=event.at,
            stored_at=now,
            kind=event.kind,
            text=event.text,
            media=msgspec.json.encode(event.media).decode() if event.media else "",
            location=msgspec.json.encode(event.location).decode() if event.location else "",
            from_me=int(event.from_me),
            forwarded=int(event.forwarded),
        )
        .on_conflict_do_nothing()
        .returning(incoming.c.id)
    )
    is_new = stored.first() is not None
    if event.from_me:
        return is_new
    restrictions.release(connection, event.number_id, event.chat, now)
    opened = insert_into(connection, windows).values(
        account_id=event.account_id, number_id=event.number_id, person=event.sender, last_incoming_at=event.at
    )
    connection.execute(
        opened.on_conflict_do_update(
            index_elements=[windows.c.number_id, windows.c.person],
            # an older message that comes late must not close the window earlier
            set_={"last_incoming_at": opened.excluded.last_incoming_at},
            where=opened.excluded.last_incoming_at > windows.c.last_incoming_at,
        )
    )
    return is_new
