"""What a handler may ask, in one value: the services, and parts of which none exists yet. Built by `kurir.app`."""

from __future__ import annotations

from dataclasses import dataclass

from kurir.channels.cloud_api.channel import CloudApi
from kurir.channels.linked_device.channel import LinkedDevices
from kurir.channels.linked_device.pairing import Pairing
from kurir.dispatch.dispatcher import Dispatcher
from kurir.events.feed import Feed
from kurir.inbox import Inbox
from kurir.kit.clock import Clock
from kurir.kit.metrics import Metrics
from kurir.kit.sealing import Sealing
from kurir.kit.tasks import TaskHealth
from kurir.leases import Leases
from kurir.media.store import MediaStore
from kurir.outbox.outbox import Outbox
from kurir.services.services import Services
from kurir.settings import Settings
from kurir.store.database import Database
from kurir.templates.templates import Templates


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway. Handlers read it and never change it."""

    settings: Settings
    clock: Clock
    database: Database
    sealing: Sealing
    metrics: Metrics
    feed: Feed
    outbox: Outbox
    dispatcher: Dispatcher
    inbox: Inbox
    media: MediaStore
    templates: Templates
    linked_devices: LinkedDevices
    cloud_api: CloudApi
    pairing: Pairing
    health: TaskHealth
    services: Services
    leases: Leases | None = None
    """Which numbers this gateway carries, where several share a database."""
