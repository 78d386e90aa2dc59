"""What must be done now and then: old media, callbacks, requests and webhooks forgotten, templates compared."""

from __future__ import annotations

import asyncio

import structlog

from kurir.channels.media import MediaStore
from kurir.foundation.clock import Clock
from kurir.foundation.database import DatabaseUnavailable
from kurir.inbox import Inbox
from kurir.outbox.idempotency import KEPT
from kurir.outbox.outbox import Outbox
from kurir.templates import Templates
from kurir.webhooks.deliver import Deliverer

_EVERY = 3600.0
_DAY = 86_400.0
_CALLBACK_DAYS = 8
"""One day longer than Meta repeats a callback, so that a repetition is still recognised."""

log = structlog.get_logger(__name__)


async def keep_house(
    media: MediaStore,
    inbox: Inbox,
    outbox: Outbox,
    templates: Templates,
    clock: Clock,
    *,
    deliverer: Deliverer,
    media_days: int,
    webhook_days: int,
) -> None:
    """Goes round at the start and then every hour, until cancelled."""
    while True:
        now = clock()
        try:
            await templates.refresh_all()
            forgotten = await media.forget(now - media_days * _DAY)
            forgotten += await inbox.forget(now - _CALLBACK_DAYS * _DAY)
            forgotten += await outbox.forget_requests(now - KEPT)
            forgotten += await deliverer.forget(now - webhook_days * _DAY)
            log.info("house_kept", forgotten=forgotten)
        except (DatabaseUnavailable, OSError) as error:
            log.warning("housekeeping_put_off", reason=str(error))
        await asyncio.sleep(_EVERY)
