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

    async def replay(self, entry_id: int) -> Entry:
        """Puts an entry back into its queue and deletes it; what fails again is quarantined again.

        Raises NotFound, NotPossible when it cannot be replayed (the sentence says why), and DatabaseUnavailable.
        """
        entry = await self._entries.get(entry_id)
        if entry.is_cut:
            raise NotPossible("it was too large to be kept whole: export it for a look, or discard it")
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
                raise NotPossible(f"what comes from {entry.queue} cannot be replayed: discard it once you have seen it")
        await self._database.write(lambda c: quarantine.remove(c, entry.id, stored_at=entry.stored_at))
        return entry

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _queue_again(self, entry: Entry) -> None:
        try:
            await self._outbox.replay(entry.account_id, int(entry.reference))
        except KeyError as error:
            raise NotPossible("the message is no longer there: discard it") from error
        except operator_actions.NotPossible as error:
            raise NotPossible(str(error)) from error

    async def _take(self, entry: Entry) -> None:
        try:
            event = event_of(entry.payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise NotPossible("this version cannot read the event: upgrade first, or discard it") from error
        if event.account_id != entry.account_id:
            raise NotPossible("the event is of another account: discard it")
        try:
            await self._inbox.take([(event, "")])
        except DatabaseUnavailable:
            raise
        except Exception as error:
            log.exception("replay_failed", entry=entry.id, queue=entry.queue)
            raise NotPossible(f"it fails again ({type(error).__name__}, see the gateway's log)") from error

    async def _call_back(self, entry: Entry) -> None:
        """Replays what Meta signed: an event, a change, or a whole body, by the prefix of its reference."""
        if entry.reference.startswith(BODY):
            changes = await asyncio.to_thread(changes_of, entry.payload)
            if changes is None:
                raise NotPossible("the body is still not a JSON object: export it for a look, or discard it")
        elif entry.reference.startswith(CHANGE):
            try:
                changes = [change_of(entry.payload)]
            except (msgspec.MsgspecError, ValueError) as error:
                raise NotPossible("this version cannot read the change: upgrade first, or discard it") from error
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
                raise NotPossible(f"no number of the account has the id {wanted} at Meta: add it first, or discard it")
        reading = await asyncio.to_thread(read, changes, owners, self._clock())
        if reading.broken:
            raise NotPossible(f"it still cannot be read ({reading.broken[0].reason}): upgrade first, or discard it")
        if not reading.events:
            raise NotPossible("this version understands nothing in it: upgrade first, or discard it")
        await self._inbox.take_each([(found.event, found.fingerprint) for found in reading.events], queue="callback")

    async def _list_again(self, entry: Entry) -> None:
        if not await self._templates.refresh(await self._number(entry), every=0.0):
            raise NotPossible("Meta's list of templates cannot be had now: try again later")

    async def _number(self, entry: Entry) -> Number:
        number = await self._database.read(
            lambda c: numbers.by_id(c, entry.account_id, entry.number_id), of=entry.account_id
        )
        if number is None:
            raise NotPossible("the number was removed: discard it")
        return number

    async def _read_again(self, entry: Entry) -> None:
        number = await self._number(entry)
        try:
            await self._linked_devices.replay_received(number, entry.payload)
        except DeviceUnavailable as error:
            raise NotPossible(f"the device cannot read it now: {error}") from error

    async def _deliver(self, entry: Entry) -> None:
        kind, _, delivery = entry.reference.partition(":")
        if kind != "delivery":
            raise NotPossible(
                "the event could not be written when it happened, so there is nothing to deliver and it cannot be "
                "replayed: the entry says what it was about; discard it once you have seen it"
            )
        now = self._clock()
        if not await self._database.write(lambda c: history.replay_delivery(c, entry.account_id, int(delivery), now)):
            raise NotPossible("the delivery is gone or its endpoint was removed: discard it")
