"""THE composition root: builds the parts, starts and stops them in order. Nothing else builds parts.

Start: data folder and lock → database and schema → what a crash left → channels → inbox → dispatcher → doors.
Stop, in the opposite order: the doors close first, then sends in flight get their time, then channels, then the
database.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from sqlalchemy import Connection

from kurir import numbers
from kurir.channels.cloud_api.channel import CloudApi
from kurir.channels.linked_device.channel import LinkedDevices
from kurir.channels.media import MediaStore
from kurir.dispatch.dispatcher import Dispatcher
from kurir.foundation.clock import system_clock
from kurir.foundation.database import Database
from kurir.foundation.migrations import migrate
from kurir.foundation.safe_fetch import SafeFetch
from kurir.foundation.sealing import Sealing, load_master_key
from kurir.foundation.telemetry import Metrics
from kurir.housekeeping import keep_house
from kurir.inbox import Inbox
from kurir.outbox.outbox import Outbox
from kurir.pairing import Pairing
from kurir.settings import Settings
from kurir.templates import Templates
from kurir.web.gateway import Gateway

_LAST_EVENTS = 5.0
"""Seconds that the last events of a closed channel may take to be stored."""

log = structlog.get_logger(__name__)


class AlreadyRunning(RuntimeError):  # noqa: N818 - a state of the world, not a mistake
    """Another gateway serves this data folder; SQLite belongs to exactly one process."""


def prepare(settings: Settings) -> tuple[Database, Sealing]:
    """The data folder with its keys and the database with its newest schema: what every command needs."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    sealing = Sealing(load_master_key(settings.data_dir))
    database = Database(settings.sqlite_path)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        migrate(connection)
        connection.exec_driver_sql("COMMIT")
    return database, sealing


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Gateway]:
    """A gateway whose parts run: everything but the doors. Raises AlreadyRunning, SealError, DatabaseUnavailable."""
    async with contextlib.AsyncExitStack() as stack:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        stack.enter_context(_sole_process(settings.data_dir))
        database, sealing = await asyncio.to_thread(prepare, settings)
        await database.start()
        stack.push_async_callback(database.close)

        clock = system_clock
        metrics = Metrics()
        dispatchers: list[Dispatcher] = []  # filled below; a commit can only wake it once it runs

        def woken(account_id: int, number_id: int) -> None:
            for dispatcher in dispatchers:
                dispatcher.wake(account_id, number_id)

        outbox = Outbox(
            database,
            sealing,
            clock,
            lifetime=settings.message_lifetime,
            max_attempts=settings.max_attempts,
            queue_limit=settings.queue_limit,
            metrics=metrics,
            woken=woken,
        )
        doubtful = await outbox.recover()
        if doubtful:
            log.warning("messages_in_doubt", count=doubtful)

        safe_fetch = SafeFetch(settings)
        await safe_fetch.start()
        stack.push_async_callback(safe_fetch.close)
        media = MediaStore(settings, database, safe_fetch, clock)

        def devices(connection: Connection) -> list[numbers.Number]:
            return numbers.all_of_channel(connection, "linked_device")

        linked_devices = LinkedDevices(
            settings, sealing.derive("message secret"), lambda: database.read(devices), clock
        )
        cloud_api = CloudApi(settings, database, sealing, clock)
        inbox = Inbox(database, outbox, clock, woken=woken)
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
        house = asyncio.create_task(keep_house(media, inbox, templates, clock, media_days=settings.media_days))
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


@contextlib.contextmanager
def _sole_process(data_dir: Path):
    """Holds the data folder's lock. Raises AlreadyRunning at once when another process holds it."""
    descriptor = os.open(data_dir / "gateway.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AlreadyRunning(
                f"another gateway serves {data_dir}: stop it, or set KURIR_DATA_DIR to another folder"
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _finished(task: asyncio.Task[None]) -> None:
    """Lets a task come to its end; what takes longer is cancelled."""
    await asyncio.wait({task}, timeout=_LAST_EVENTS)
    await _ended(task)
