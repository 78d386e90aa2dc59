"""Periodic maintenance: deletes old data, and compares templates with Meta's.

Jobs are independent: one that fails is logged and retried in the next round, and the others run. Deletion goes in small
chunks with pauses (`store/chunked_deletes`), so that a round after days of downtime does not delay writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from kurir.broadcasts import broadcasts
from kurir.events import retention as events
from kurir.inbox import raw_callbacks, retention
from kurir.kit.clock import Clock
from kurir.kit.pauses import PAUSES, Pauses
from kurir.kit.tasks import TaskHealth
from kurir.kit.test_signals import TestSignals
from kurir.media.store import MediaStore
from kurir.otp import retention as otp
from kurir.outbox.idempotency import KEPT
from kurir.outbox.outbox import Outbox
from kurir.quarantine import quarantine
from kurir.settings import Settings
from kurir.store.database import Database, DatabaseUnavailable
from kurir.templates.templates import Templates
from kurir.webhooks import history
from kurir.webhooks.deliver import Deliverer

_EVERY = 3600.0
_AGAIN = 300.0
"""Seconds until the next round when a job failed."""
_DAY = 86_400.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class MaintenanceJob:
    """One job of each round; `work` gets the time (unix seconds) and returns how many rows it deleted."""

    name: str
    work: Callable[[float], Awaitable[int]]


class Kept(NamedTuple):
    """How long data are kept: `days` by the setting `setting`, 0 for ever."""

    what: str
    setting: str
    days: int


def kept(settings: Settings) -> list[Kept]:
    """What is kept, and for how long."""
    files = [days for days in (settings.media_days, settings.message_days) if days]
    return [
        Kept("messages", "message_days", settings.message_days),
        Kept("broadcasts", "message_days", settings.message_days),
        Kept("media", "media_days", min(files, default=0)),
        Kept("received messages", "received_days", settings.received_days),
        Kept("service windows", "received_days", settings.received_days),
        Kept("callbacks", "callback_days", settings.callback_days),
        Kept("quarantine", "quarantine_days", settings.quarantine_days),
        Kept("one-time passwords", "otp_days", settings.otp_days),
        Kept("webhook deliveries", "webhook_days", settings.webhook_days),
        Kept("events", "event_days", settings.event_days),
    ]


def jobs(
    settings: Settings,
    database: Database,
    *,
    media: MediaStore,
    outbox: Outbox,
    deliverer: Deliverer,
    templates: Templates,
) -> list[MaintenanceJob]:
    """All jobs of a round, in this order."""
    incoming = settings.data_dir.absolute() / "incoming"
    forget: dict[str, Callable[[float], Awaitable[int]]] = {
        "messages": outbox.forget_messages,
        "broadcasts": lambda before: broadcasts.forget(database, before),
        "media": media.forget,
        "received messages": lambda before: retention.forget_messages(database, incoming, before),
        "service windows": lambda before: retention.forget_windows(database, before),
        "callbacks": lambda before: retention.forget_callbacks(database, before),
        "quarantine": lambda before: quarantine.forget(database, before),
        "one-time passwords": lambda before: otp.forget(database, before),
        "webhook deliveries": deliverer.forget,
        "events": lambda before: events.forget(database, before, history.NEEDED),
    }

    def older(what: str, days: int) -> MaintenanceJob:
        return MaintenanceJob(what, lambda now: forget[what](now - days * _DAY))

    async def compare(_now: float) -> int:
        await templates.refresh_all()
        return 0

    return [
        MaintenanceJob("requests", lambda now: outbox.forget_requests(now - KEPT)),
        MaintenanceJob("early receipts", lambda now: outbox.forget_early_receipts(now - _DAY)),
        MaintenanceJob("raw callbacks", lambda _now: raw_callbacks.bound_all(database)),
        *(older(one.what, one.days) for one in kept(settings) if one.days),
        MaintenanceJob("templates", compare),
    ]


async def run_maintenance(
    todo: Sequence[MaintenanceJob],
    clock: Clock,
    health: TaskHealth,
    pauses: Pauses = PAUSES,
    signals: TestSignals | None = None,
) -> None:
    """Runs a round at the start and then every hour, sooner when a job failed, until cancelled."""
    await asyncio.sleep(pauses.before_maintenance)
    while True:
        done = await go_round(todo, clock, health)
        if signals is not None:
            signals.emit("maintained")
        await asyncio.sleep(_EVERY if len(done) == len(todo) else _AGAIN)


async def go_round(todo: Sequence[MaintenanceJob], clock: Clock, health: TaskHealth) -> dict[str, int]:
    """Runs every job once; returns how many rows each deleted, without those that failed."""
    done: dict[str, int] = {}
    for job in todo:
        name = job.name
        try:
            done[name] = await job.work(clock())
            health.recovered("maintenance", name)
        except (DatabaseUnavailable, OSError) as error:
            log.warning("maintenance_deferred", job=name, reason=str(error))
        except Exception as error:
            log.exception("maintenance_failed", job=name)
            health.failed("maintenance", name, error)
    log.info("maintenance_done", forgotten={name: count for name, count in done.items() if count})
    return done
