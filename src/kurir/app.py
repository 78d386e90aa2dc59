"""THE composition root: builds the parts, starts and stops them in order. Nothing else builds parts.

Start: data folder and lock → database and schema → webhooks → channels → inbox → dispatcher, whose lanes first settle
what a crash left → HTTP server (by `kurir.serve`).
Stop, in the opposite order: the server closes first, then sends in flight get their time, then channels, webhooks in
flight, and the database.

More than 300 lines: every part is built here, in one order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, NoReturn

import structlog
from sqlalchemy import Connection

from kurir import maintenance
from kurir.broadcasts.progress import Progress
from kurir.channels.channel import Channel
from kurir.channels.cloud_api.channel import CloudApi
from kurir.channels.linked_device.channel import LinkedDevices
from kurir.channels.linked_device.pairing import Pairing
from kurir.channels.linked_device.peer_calls import PeerCalls
from kurir.data_folder import open_data_folder, sole_gateway
from kurir.dispatch.dispatcher import Dispatcher
from kurir.dispatch.notifier import Notifier
from kurir.events.feed import Feed
from kurir.inbox import Inbox
from kurir.kit import crash_points
from kurir.kit.clock import SteadyClock
from kurir.kit.disk_reserve import DiskReserve
from kurir.kit.metrics import Metrics
from kurir.kit.pauses import PAUSES, Pauses
from kurir.kit.safe_fetch import SafeFetch
from kurir.kit.sealing import Sealing
from kurir.kit.tasks import TaskHealth, Tasks
from kurir.kit.test_signals import TestSignals
from kurir.leases import LeaseHandlers, Leases
from kurir.media.store import MediaStore
from kurir.numbers import numbers
from kurir.outbox.outbox import Outbox
from kurir.services.services import services_of
from kurir.settings import Settings
from kurir.store.database import Database
from kurir.templates.templates import Templates
from kurir.web.gateway import Gateway
from kurir.webhooks.deliver import Deliverer

_GRACE = 25.0
"""Seconds that sends in flight have when their number moves to another gateway in order."""
_LAST_ANSWERS = 2.0
"""Seconds that they have when the number is lost: enough to read answers that have arrived."""
_LAST_EVENTS = 5.0
"""Seconds that the last events of a closed channel may take to be stored."""

log = structlog.get_logger(__name__)


class Channels(NamedTuple):
    """The two ways to WhatsApp, not started yet."""

    linked_device: LinkedDevices
    cloud_api: CloudApi


@dataclass(frozen=True, slots=True)
class RunningGateway(Gateway):
    """A gateway with its parts, which only the server process and tests see: handlers are given a `Gateway`."""

    database: Database
    sealing: Sealing
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
    leases: Leases | None
    """Which numbers this gateway holds, where several share a database."""

    async def stop_sending(self, grace: float) -> int:
        """Claims and takes over nothing more; returns how many sends were cut off after `grace` seconds."""
        for waited_for in (self.feed, self.pairing, self.linked_devices):
            waited_for.dismiss()  # who waits is answered: the server ends with its last request
        if self.leases is not None:
            self.leases.stop_taking()
        cut = await self.dispatcher.stop(grace)
        self.outbox.dismiss()
        return cut


@asynccontextmanager
async def running(  # noqa: PLR0915 - one line per part, in the order of their start
    settings: Settings,
    url: str = "",
    *,
    channels: Channels | None = None,
    pauses: Pauses = PAUSES,
    signals: TestSignals | None = None,
    start_anew: Callable[[], Awaitable[NoReturn]] | None = None,
) -> AsyncGenerator[RunningGateway]:
    """A gateway whose parts run: everything but the HTTP server, which will be at `url`.

    `start_anew` replaces a process that has migrated the database: it would keep the tools for it in memory as long as
    it runs. Tests pass `channels` that need no network, shorter `pauses` and `signals` to wait for; nothing else
    differs. Raises AlreadyRunning, SealError, SchemaError, BackupError, SettingsError and DatabaseUnavailable.
    """
    crash_points.arm(settings.crash_at)
    steps: list[str] = []

    def migrated(step: str) -> None:
        steps.append(step)
        log.info("schema_migrated", step=step)

    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(sole_gateway(settings.data_dir))
        # the thread ends before the lock is released, also when cancelled
        with ThreadPoolExecutor(1, "open-data-folder") as opener:
            opening = partial(open_data_folder, settings, serving=True, report=migrated)
            database, sealing = await asyncio.get_running_loop().run_in_executor(opener, opening)
        if steps and start_anew is not None:
            database.engine.dispose()
            await start_anew()
        metrics = Metrics()
        health = TaskHealth(metrics.task_failed)
        metrics.watch_tasks(health.failing)
        metrics.watch_room(DiskReserve(settings.data_dir, settings.disk_reserve).room)
        await database.start(health)
        stack.push_async_callback(database.close)

        clock = SteadyClock()
        leases = Leases(database, settings.data_dir / "lease", url, health=health) if database.shared else None
        feed = Feed(database, health)
        feed.start()
        stack.push_async_callback(feed.close)
        notifier = Notifier(database, leases, health, feed=feed)
        notifier.start()
        stack.push_async_callback(notifier.close)
        database.appended = notifier.appended

        # separate: hanging receivers must not occupy the connections that fetch pictures
        poster = SafeFetch(settings, name_threads=48)
        await poster.start()
        stack.push_async_callback(poster.close)
        deliverer = Deliverer(database, sealing, poster, metrics, clock, health=health)

        outbox = Outbox(
            database,
            sealing,
            clock,
            lifetime=settings.message_lifetime,
            max_attempts=settings.max_attempts,
            queue_limit=settings.queue_limit,
            restriction=settings.device_restriction,
            metrics=metrics,
            number_due=notifier.number_due,
            settled=notifier.settled,
        )
        await outbox.count_waiting()
        notifier.outbox = outbox

        if "webhooks" in settings.roles:
            notifier.deliverer = deliverer.wake
            await deliverer.start()
            stack.push_async_callback(deliverer.stop)

        safe_fetch = SafeFetch(settings)
        await safe_fetch.start()
        stack.push_async_callback(safe_fetch.close)
        media = MediaStore(settings, database, safe_fetch, clock)
        stack.push_async_callback(media.close)

        if channels is None:

            def devices(connection: Connection) -> list[numbers.Number]:
                return numbers.all_of_channel(connection, "linked_device")

            linked_devices = LinkedDevices(
                settings,
                sealing.derive("message secret"),
                lambda: database.read(devices),
                clock,
                peer_calls=PeerCalls(leases.holder, sealing.derive("peer calls").hex()) if leases is not None else None,
                health=health,
                unread=metrics.unread,
            )
            channels = Channels(linked_devices, CloudApi(settings, database, sealing, clock))
        linked_devices, cloud_api = channels
        metrics.watch_devices(linked_devices.device_stats)
        inbox = Inbox(
            database,
            outbox,
            clock,
            number_due=notifier.number_due,
            ownership=leases,
            metrics=metrics,
            health=health,
            pauses=pauses,
        )
        if leases is not None:
            stack.push_async_callback(leases.close)  # after the lanes and devices have ended
        for channel in (linked_devices, cloud_api):
            await _start(channel, inbox, stack, health)

        dispatcher = Dispatcher(
            {"linked_device": linked_devices, "cloud_api": cloud_api},
            database=database,
            outbox=outbox,
            media=media,
            metrics=metrics,
            clock=clock,
            device_gap=settings.device_gap,
            ownership=leases,
            health=health,
            pauses=pauses,
            signals=signals,
        )
        notifier.dispatcher = dispatcher
        await dispatcher.start()
        stack.push_async_callback(dispatcher.stop)
        dispatching = "dispatch" in settings.roles
        if leases is not None and dispatching:
            await leases.start(_handlers(database, linked_devices, dispatcher, notifier.released))
            stack.callback(leases.stop_taking)

        templates = Templates(database, cloud_api, media, clock)
        if dispatching:
            jobs = maintenance.jobs(
                settings, database, media=media, outbox=outbox, deliverer=deliverer, templates=templates
            )
            periodic = Tasks(health)
            maintain = partial(maintenance.run_maintenance, jobs, clock, health, pauses, signals)
            periodic.keep("maintenance", maintain, endless=True)
            periodic.keep("broadcast-progress", Progress(database, clock).follow, endless=True)
            stack.push_async_callback(periodic.close)

        pairing = Pairing(linked_devices, clock)
        yield RunningGateway(
            settings=settings,
            clock=clock,
            metrics=metrics,
            services=services_of(
                settings,
                database=database,
                number_due=notifier.number_due,
                sealing=sealing,
                clock=clock,
                metrics=metrics,
                tasks=health,
                feed=feed,
                poster=poster,
                media=media,
                outbox=outbox,
                inbox=inbox,
                linked_devices=linked_devices,
                pairing=pairing,
                templates=templates,
                leases=leases,
            ),
            database=database,
            sealing=sealing,
            feed=feed,
            outbox=outbox,
            dispatcher=dispatcher,
            inbox=inbox,
            media=media,
            templates=templates,
            linked_devices=linked_devices,
            cloud_api=cloud_api,
            pairing=pairing,
            health=health,
            leases=leases,
        )


async def _start(channel: Channel, inbox: Inbox, stack: contextlib.AsyncExitStack, health: TaskHealth) -> None:
    # unwound in reverse order: a closed channel ends its events, of which the last are still stored
    receiving = Tasks(health)
    receiving.keep("inbox", lambda: inbox.follow(channel), key=type(channel).__name__, vital=True)
    stack.push_async_callback(receiving.close, _LAST_EVENTS)
    stack.push_async_callback(channel.close)
    await channel.start()


def _handlers(
    database: Database, devices: LinkedDevices, dispatcher: Dispatcher, released: Callable[[], None]
) -> LeaseHandlers:
    """Opens and closes the device and the lane of a number that this gateway gains or loses."""

    async def begin(account_id: int, number_id: int) -> None:
        number = await database.read(lambda c: numbers.by_id(c, account_id, number_id), of=account_id)
        if number is not None and number.channel == "linked_device":
            await devices.open_device(number)
        dispatcher.begin(account_id, number_id)

    async def end(number_id: int, orderly: bool) -> None:
        await dispatcher.end(number_id, _GRACE if orderly else _LAST_ANSWERS)
        await devices.close_device(number_id)

    def may_go(number_id: int) -> bool:
        return not devices.is_pairing(number_id)

    return LeaseHandlers(begin, end, may_go, released)
