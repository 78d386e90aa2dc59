"""All services of a running gateway, put together from its parts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from kurir.channels.linked_device.channel import LinkedDevices
from kurir.channels.linked_device.pairing import Pairing
from kurir.inbox import Inbox
from kurir.kit.clock import Clock
from kurir.kit.safe_fetch import SafeFetch
from kurir.kit.sealing import Sealing
from kurir.leases import Leases
from kurir.outbox.outbox import Outbox
from kurir.services.accounts import Accounts
from kurir.services.contact_sync import ContactSync
from kurir.services.contacts import Contacts
from kurir.services.decisions import Decisions
from kurir.services.devices import Devices
from kurir.services.messages import Messages
from kurir.services.numbers import Numbers
from kurir.services.quarantine import Quarantine
from kurir.services.replays import Replays
from kurir.services.stored import stored_services
from kurir.services.webhooks import Webhooks
from kurir.settings import Settings
from kurir.store.database import Database
from kurir.templates.templates import Templates


@dataclass(frozen=True, slots=True)
class Services:
    """What can be done with a running gateway, by feature."""

    accounts: Accounts
    numbers: Numbers
    devices: Devices
    messages: Messages
    decisions: Decisions
    quarantine: Quarantine
    replays: Replays
    webhooks: Webhooks
    contacts: Contacts
    contact_sync: ContactSync


def services_of(
    settings: Settings,
    *,
    database: Database,
    sealing: Sealing,
    clock: Clock,
    poster: SafeFetch,
    outbox: Outbox,
    inbox: Inbox,
    linked_devices: LinkedDevices,
    pairing: Pairing,
    templates: Templates,
    leases: Leases | None = None,
) -> Services:
    """The services over these running parts."""
    shared: Callable[[], AbstractAsyncContextManager[SafeFetch]] = lambda: contextlib.nullcontext(poster)  # noqa: E731
    stored = stored_services(settings, database, sealing, clock, shared)
    return Services(
        accounts=stored.accounts,
        numbers=stored.numbers,
        devices=Devices(linked_devices, pairing, leases, stored.numbers),
        messages=stored.messages,
        decisions=Decisions(outbox, linked_devices, clock),
        quarantine=stored.quarantine,
        replays=Replays(
            database, inbox, outbox, linked_devices, entries=stored.quarantine, templates=templates, clock=clock
        ),
        webhooks=stored.webhooks,
        contacts=stored.contacts,
        contact_sync=ContactSync(database, linked_devices, stored.accounts, stored.contacts),
    )
