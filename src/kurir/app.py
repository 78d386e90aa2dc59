"""THE composition root: builds the parts, starts and stops them in order. Nothing else builds parts.

Start: data folder and lock → database and schema → webhooks → channels → inbox → dispatcher, whose lanes first settle
what a crash left → doors.
Stop, in the opposite order: the doors close first, then sends in flight get their time, then channels, webhooks in
flight, and the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import Connection

from kurir import numbers
from kurir.channels.cloud_api.channel import CloudApi
from kurir.channels.linked_device.channel import LinkedDevices
from kurir.channels.media import MediaStore
from kurir.dispatch.dispatcher import Dispatcher
from kurir.foundation import crash_points
from kurir.foundation.alone import alone_on
from kurir.foundation.clock import system_clock
from kurir.foundation.data_folder import open_data_folder, sole_gateway
from kurir.foundation.safe_fetch import SafeFetch
from kurir.foundation.telemetry import Metrics
from kurir.housekeeping import keep_house
from kurir.inbox import Inbox
from kurir.outbox.outbox import Outbox
from kurir.pairing import Pairing
from kurir.settings import Settings
from kurir.templates import Templates
from kurir.web.gateway import Gateway
from kurir.webhooks.deliver import Deliverer

_LAST_EVENTS = 5.0
"""Seconds that the last events of a closed channel may take to be stored."""


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Gateway]:
    """A gateway whose parts run: everything but the doors. Raises AlreadyRunning, SealError, DatabaseUnavailable."""
    crash_points.arm(settings.crash_at)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(sole_gateway(settings.data_dir))
        database, sealing = await asyncio.to_thread(open_data_folder, settings)
        await database.start()
        stack.push_async_callback(database.close)
        await stack.enter_async_context(alone_on(database, lost=_stop))

        clock = system_clock
        metrics = Metrics()
        dispatchers: list[Dispatcher] = []  # filled below; a commit can only wake it once it runs

        def woken(account_id: int, number_id: int) -> None:
            for dispatcher in dispatchers:
                dispatcher.wake(account_id, number_id)

        # of its own: receivers that hang must not take the connections that fetch pictures
        poster = SafeFetch(settings, connections=0, per_host=0, name_threads=48)
        await poster.start()
        stack.push_async_callback(poster.close)
        deliverer = Deliverer(database, sealing, poster, metrics, clock)

        outbox = Outbox(
            database,
            sealing,
            clock,
            lifetime=settings.message_lifetime,
            max_attempts=settings.max_attempts,
            queue_limit=settings.queue_limit,
            metrics=metrics,
            woken=woken,
            told=deliverer.wake,
        )
        await outbox.count_waiting()

        await deliverer.start()
        stack.push_async_callback(deliverer.stop)

        safe_fetch = SafeFetch(settings)
        await safe_fetch.start()
        stack.push_async_callback(safe_fetch.close)
        media = MediaStore(settings, database, safe_fetch, clock)

        def devices(connection: Connection) -> list[numbers.Number]:
            return numbers.all_of_channel(connection, "linked_device")

        linked_devices = LinkedDevices(
            settings, sealing.derive("message secret"), lambda: database.read(devices), clock
        )
        metrics.watch_devices(linked_devices.survey)
        cloud_api = CloudApi(settings, database, sealing, clock)
        inbox = Inbox(database, outbox, clock, woken=woken, told=deliverer.wake)
        for channel in (linked_devices, cloud_api):
            # unwound the other way round: a closed channel ends its events, and the last of them are still stored
            follower = asyncio.create_task(inbox.follow(channel), name=f"follow-{type(channel).__name__}")
            stack.push_async_callback(_finished, follower)
            stack.push_async_callback(channel.close)
            await channel.start()

        dispatcher = Dispatcher(
            {"linked_device": linked_devices, "cloud_api": cloud_api},
            database=database,
            outbox=outbox,
            media=media,
            metrics=metrics,
            clock=clock,
            device_gap=settings.device_gap,
        )
        dispatchers.append(dispatcher)
        await dispatcher.start()
        stack.push_async_callback(dispatcher.stop)

        templates = Templates(database, cloud_api, media, clock)
        house = asyncio.create_task(
            keep_house(
                media,
                inbox,
                outbox,
                templates,
                clock,
                deliverer=deliverer,
                media_days=settings.media_days,
                webhook_days=settings.webhook_days,
            )
        )
        stack.push_async_callback(_ended, house)

        yield Gateway(
            settings=settings,
            clock=clock,
            database=database,
            sealing=sealing,
            metrics=metrics,
            outbox=outbox,
            dispatcher=dispatcher,
            inbox=inbox,
            media=media,
            linked_devices=linked_devices,
            cloud_api=cloud_api,
            pairing=Pairing(linked_devices, clock),
        )


def _stop() -> None:
    """The orderly stop, as if the operator had asked for it."""
    os.kill(os.getpid(), signal.SIGTERM)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _finished(task: asyncio.Task[None]) -> None:
    """Lets a task come to its end; what takes longer is cancelled."""
    await asyncio.wait({task}, timeout=_LAST_EVENTS)
    await _ended(task)
