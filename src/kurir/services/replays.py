"""Replays quarantined items, each queue in its own way."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from kurir.channels.cloud_api.callbacks import BODY, CHANGE, Change, change_of, changes_of, owners_among, read
from kurir.channels.linked_device.channel import LinkedDevices
from kurir.channels.linked_device.peer_calls import DeviceUnavailable
from kurir.inbox import Inbox, event_of
from kurir.kit.clock import Clock
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.outbox import operator_actions
from kurir.outbox.outbox import Outbox
from kurir.quarantine import quarantine
from kurir.quarantine.quarantine import Entry
from kurir.reasons import replays as reasons
from kurir.services.errors import NotPossible
from kurir.services.quarantine import Quarantine
from kurir.store.database import Database, DatabaseUnavailable
from kurir.templates.templates import Templates
from kurir.webhooks import history

log = structlog.get_logger(__name__)


class Replays:
    """Replays entries of the quarantine in the running gateway."""

    def __init__(
        self,
        database: Database,
        inbox: Inbox,
        outbox: Outbox,
        linked_devices: LinkedDevices,
        *,
        entries: Quarantine,
        templates: Templates,
        clock: Clock,
    ) -> None:
        self._database = database
        self._inbox = inbox
        self._outbox = outbox
        self._linked_devices = linked_devices
        self._entries = entries
        self._templates = templates
        self._clock = clock

    async def replay_of_any(self, entry_id: int) -> Entry:
        """Puts an entry back into its queue and deletes it; what fails again is quarantined again.

        Raises NotFound, NotPossible when it cannot be replayed (the reason says why), and DatabaseUnavailable.
        """
        entry = await self._entries.get_of_any(entry_id)
        if entry.is_cut:
            raise NotPossible(reasons.CUT())
        match entry.queue:
            case "inbox":
                await self._take(entry)
            case "callback":
                await self._call_back(entry)
            case "template":
                await self._list_again(entry)
            case "outbox":
                await self._queue_again(entry)
            case "webhook":
                await self._deliver(entry)
            case "journal":
                await self._read_again(entry)
            case _:
                raise NotPossible(reasons.QUEUE_NOT_REPLAYABLE(queue=entry.queue))
        await self._database.write(lambda c: quarantine.remove(c, entry.id, stored_at=entry.stored_at))
        return entry

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _queue_again(self, entry: Entry) -> None:
        try:
            await self._outbox.replay(entry.account_id, int(entry.reference))
        except KeyError as error:
            raise NotPossible(reasons.MESSAGE_GONE()) from error
        except operator_actions.NotPossible as error:
            raise NotPossible(error.reason) from error

    async def _take(self, entry: Entry) -> None:
        try:
            event = event_of(entry.payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise NotPossible(reasons.EVENT_UNREADABLE()) from error
        if event.account_id != entry.account_id:
            raise NotPossible(reasons.OTHER_ACCOUNT())
        try:
            await self._inbox.take([(event, "")])
        except DatabaseUnavailable:
            raise
        except Exception as error:
            log.exception("replay_failed", entry=entry.id, queue=entry.queue)
            raise NotPossible(reasons.FAILS_AGAIN(error=type(error).__name__)) from error

    async def _call_back(self, entry: Entry) -> None:
        """Replays what Meta signed: an event, a change, or a whole body, by the prefix of its reference."""
        if entry.reference.startswith(BODY):
            changes = await asyncio.to_thread(changes_of, entry.payload)
            if changes is None:
                raise NotPossible(reasons.BODY_NO_OBJECT())
        elif entry.reference.startswith(CHANGE):
            try:
                changes = [change_of(entry.payload)]
            except (msgspec.MsgspecError, ValueError) as error:
                raise NotPossible(reasons.CHANGE_UNREADABLE()) from error
        else:
            await self._take(entry)
            return
        await self._store(entry, changes)

    async def _store(self, entry: Entry, changes: list[Change]) -> None:
        """Stores the changes' events for numbers of the account whose secret signed them."""
        ours = await self._database.read(
            lambda c: numbers.of_account(c, entry.account_id), of=entry.account_id, pool="lists"
        )
        owners = owners_among(number for number in ours if number.channel == "cloud_api")
        for change in changes:
            if not owners(change):
                wanted = change.phone_number_id or change.waba_id or "none"
                raise NotPossible(reasons.NO_OWNER(wanted=wanted))
        reading = await asyncio.to_thread(read, changes, owners, self._clock())
        if reading.broken:
            raise NotPossible(reasons.STILL_UNREADABLE(reason=reading.broken[0].reason))
        if not reading.events:
            raise NotPossible(reasons.NOT_UNDERSTOOD())
        await self._inbox.take_each([(found.event, found.fingerprint) for found in reading.events], queue="callback")

    async def _list_again(self, entry: Entry) -> None:
        if not await self._templates.refresh(await self._number(entry), every=0.0):
            raise NotPossible(reasons.TEMPLATES_NOT_HAD())

    async def _number(self, entry: Entry) -> Number:
        number = await self._database.read(
            lambda c: numbers.by_id(c, entry.account_id, entry.number_id), of=entry.account_id
        )
        if number is None:
            raise NotPossible(reasons.NUMBER_REMOVED())
        return number

    async def _read_again(self, entry: Entry) -> None:
        number = await self._number(entry)
        try:
            await self._linked_devices.replay_received(number, entry.payload)
        except DeviceUnavailable as error:
            raise NotPossible(reasons.DEVICE_CANNOT_READ(reason=error.reason)) from error

    async def _deliver(self, entry: Entry) -> None:
        kind, _, delivery = entry.reference.partition(":")
        if kind != "delivery":
            raise NotPossible(reasons.NO_DELIVERY())
        now = self._clock()
        if not await self._database.write(lambda c: history.replay_delivery(c, entry.account_id, int(delivery), now)):
            raise NotPossible(reasons.DELIVERY_GONE())
