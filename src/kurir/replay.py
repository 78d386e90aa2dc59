"""Tries again what was set aside in the quarantine, each queue in its own way."""

from __future__ import annotations

import msgspec
import structlog

from kurir import numbers, quarantine
from kurir.channels.linked_device.channel import LinkedDevices
from kurir.channels.linked_device.errands import DeviceUnavailable
from kurir.foundation.clock import Clock
from kurir.foundation.database import Database, DatabaseUnavailable
from kurir.inbox import Inbox, event_of
from kurir.outbox.by_hand import NotPossible
from kurir.outbox.outbox import Outbox
from kurir.quarantine import Entry
from kurir.webhooks import history

log = structlog.get_logger(__name__)


class Replays:
    """Replays entries of the quarantine in the running gateway."""

    def __init__(
        self, database: Database, inbox: Inbox, outbox: Outbox, linked_devices: LinkedDevices, clock: Clock
    ) -> None:
        self._database = database
        self._inbox = inbox
        self._outbox = outbox
        self._linked_devices = linked_devices
        self._clock = clock

    async def replay(self, entry_id: int) -> Entry:
        """Puts an entry back into its queue and removes it; what fails again is set aside again.

        Raises KeyError for an entry that does not exist, NotPossible when it cannot be replayed (the sentence says
        why), and DatabaseUnavailable.
        """
        entry = await self._found(entry_id)
        match entry.queue:
            case "inbox":
                await self._take(entry)
            case "outbox":
                await self._outbox.replay(entry.account_id, int(entry.reference))
            case "webhook":
                await self._deliver(entry)
            case "journal":
                await self._read_again(entry)
            case _:
                raise NotPossible(f"what comes from {entry.queue} cannot be replayed: discard it once you have seen it")
        await self._database.write(lambda c: quarantine.remove(c, entry.id, stored_at=entry.stored_at))
        return entry

    async def discard(self, entry_id: int) -> Entry:
        """Removes an entry for good. Raises KeyError and DatabaseUnavailable."""
        entry = await self._found(entry_id)
        await self._database.write(lambda c: quarantine.remove(c, entry.id))
        return entry

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _found(self, entry_id: int) -> Entry:
        entry = await self._database.read(lambda c: quarantine.by_id(c, entry_id))
        if entry is None:
            raise KeyError(entry_id)
        return entry

    async def _take(self, entry: Entry) -> None:
        try:
            event = event_of(entry.payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise NotPossible("this version cannot read the event: upgrade first, or discard it") from error
        try:
            await self._inbox.take([(event, "")])
        except DatabaseUnavailable:
            raise
        except Exception as error:
            log.exception("replay_failed", entry=entry.id, queue=entry.queue)
            raise NotPossible(f"it fails again ({type(error).__name__}, see the gateway's log)") from error

    async def _read_again(self, entry: Entry) -> None:
        number = await self._database.read(lambda c: numbers.by_id(c, entry.account_id, entry.number_id))
        if number is None:
            raise NotPossible("the number was removed: discard it")
        try:
            await self._linked_devices.replay_received(number, entry.payload)
        except DeviceUnavailable as error:
            raise NotPossible(f"the device cannot read it now: {error}") from error

    async def _deliver(self, entry: Entry) -> None:
        kind, _, delivery = entry.reference.partition(":")
        if kind != "delivery":
            raise NotPossible("the event was never written: there is nothing to send; discard it")
        now = self._clock()
        if not await self._database.write(lambda c: history.replay_delivery(c, entry.account_id, int(delivery), now)):
            raise NotPossible("the delivery is gone or its endpoint was removed: discard it")
