"""All services of a running gateway, put together from its parts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from kurir.channels.linked_device.channel import LinkedDevices
from kurir.channels.linked_device.pairing import Pairing
from kurir.events.feed import Feed
from kurir.inbox import Inbox
from kurir.kit.clock import Clock
from kurir.kit.metrics import Metrics
from kurir.kit.safe_fetch import SafeFetch
from kurir.kit.sealing import Sealing
from kurir.kit.tasks import TaskHealth
from kurir.leases import Leases
from kurir.media.store import MediaStore
from kurir.outbox.outbox import Outbox
from kurir.services.accounts import Accounts
from kurir.services.broadcasts import Broadcasts
from kurir.services.callbacks import Callbacks
from kurir.services.callers import Callers
from kurir.services.contact_sync import ContactSync
from kurir.services.contacts import Contacts
from kurir.services.devices import Devices
from kurir.services.events import Events
from kurir.services.health import Health
from kurir.services.idempotency import Idempotency
from kurir.services.message_actions import MessageActions
from kurir.services.messages import Messages
from kurir.services.numbers import Numbers
from kurir.services.otps import Otps
from kurir.services.peer_calls import ReceivedPeerCalls
from kurir.services.quarantine import Quarantine
from kurir.services.replays import Replays
from kurir.services.sending import Sending
from kurir.services.sign_in import SignIn
from kurir.services.stored_services import stored_services
from kurir.services.templates import Templates
from kurir.services.webhooks import Webhooks
from kurir.settings import Settings
from kurir.store.database import Database
from kurir.templates.templates import Templates as SyncedTemplates


@dataclass(frozen=True, slots=True)
class Services:
    """What can be done with a running gateway, by feature."""

    callers: Callers
    sign_in: SignIn
    accounts: Accounts
    numbers: Numbers
    devices: Devices
    sending: Sending
    idempotency: Idempotency
    broadcasts: Broadcasts
    templates: Templates
    otps: Otps
    messages: Messages
    message_actions: MessageActions
    quarantine: Quarantine
    replays: Replays
    webhooks: Webhooks
    contacts: Contacts
    contact_sync: ContactSync
    callbacks: Callbacks
    events: Events
    peer_calls: ReceivedPeerCalls
    health: Health


def services_of(
    settings: Settings,
    *,
    database: Database,
    sealing: Sealing,
    clock: Clock,
    metrics: Metrics,
    tasks: TaskHealth,
    feed: Feed,
    poster: SafeFetch,
    media: MediaStore,
    outbox: Outbox,
    inbox: Inbox,
    linked_devices: LinkedDevices,
    pairing: Pairing,
    templates: SyncedTemplates,
    leases: Leases | None = None,
    number_due: Callable[[int, int], None],
) -> Services:
    """The services over these running parts. Raises SettingsError for a limit that cannot be read."""
    shared: Callable[[], AbstractAsyncContextManager[SafeFetch]] = lambda: contextlib.nullcontext(poster)  # noqa: E731
    stored = stored_services(settings, database, sealing, clock, shared, number_due=number_due)
    message_actions = MessageActions(outbox, linked_devices, clock)
    return Services(
        callers=Callers(database, sealing, clock, settings.failed_key_limit),
        sign_in=SignIn(database, clock, settings.failed_key_limit),
        accounts=stored.accounts,
        numbers=stored.numbers,
        devices=Devices(linked_devices, pairing, leases, stored.numbers),
        sending=Sending(
            database, outbox, media=media, linked_devices=linked_devices, message_actions=message_actions, clock=clock
        ),
        idempotency=Idempotency(outbox, sealing),
        broadcasts=Broadcasts(outbox, clock),
        templates=Templates(database, templates),
        otps=Otps(database, sealing, outbox, settings=settings, metrics=metrics, clock=clock),
        messages=stored.messages,
        message_actions=message_actions,
        quarantine=stored.quarantine,
        replays=Replays(
            database, inbox, outbox, linked_devices, entries=stored.quarantine, templates=templates, clock=clock
        ),
        webhooks=stored.webhooks,
        contacts=stored.contacts,
        contact_sync=ContactSync(database, linked_devices, stored.accounts, stored.contacts),
        callbacks=Callbacks(database, sealing, inbox, clock),
        events=Events(database, feed),
        peer_calls=ReceivedPeerCalls(database, sealing, linked_devices, pairing),
        health=Health(database, tasks, settings),
    )
