"""What a supervisor and a monitor ask: is the process alive, can it take messages, how is it doing.

Open to whoever reaches the port; the answers hold no account's data.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable

import structlog
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kurir.kit.disk_reserve import DiskReserve
from kurir.kit.log_limit import LogLimit
from kurir.store.database import DatabaseUnavailable
from kurir.web.gateway import Gateway

log = structlog.get_logger(__name__)

TIMEOUT = 1.0
"""Seconds in which the database has to answer."""
LATELY = 10.0
"""Seconds for which a transaction that the database refused counts."""
LEAST_FREE = 64 * 1024 * 1024
"""Bytes that must be free in the data folder, or half of the reserve that files leave, where that is less: files may
fill the rest, and the gateway still takes messages."""
_FRESH = {"Cache-Control": "no-store"}


def routes(gateway: Gateway) -> list[Route]:
    """`GET /healthz`, `/readyz` and `/metrics`. The doors open after the channels have started and close before."""
    recent = LogLimit()

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"}, headers=_FRESH)

    async def readyz(_request: Request) -> Response:
        reasons = await not_ready(gateway, recent)
        if not reasons:
            return JSONResponse({"status": "ready"}, headers=_FRESH)
        if recent.is_due(tuple(reasons)):
            log.warning("readiness_failed", reasons=reasons)
        return JSONResponse({"status": "not_ready", "reasons": reasons}, 503, headers=_FRESH)

    async def metrics(_request: Request) -> Response:
        return Response(gateway.metrics.render(), media_type=CONTENT_TYPE_PLAIN_0_0_4, headers=_FRESH)

    return [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]


async def not_ready(gateway: Gateway, recent: LogLimit) -> list[str]:
    """Why the gateway cannot take messages now, as sentences; empty when it can. What only the log may know goes there,
    unless it is in `recent`."""
    database = gateway.database
    answers = await asyncio.gather(
        _error_text(
            database.read(lambda c: c.exec_driver_sql("SELECT 1").scalar(), pool="probe"),
            "does not answer reads",
            recent,
        ),
        _error_text(database.write(lambda c: None), "does not answer writes", recent),
        _disk(gateway),
    )
    reasons = [answer for answer in answers if answer]
    if not reasons and database.refused_within(LATELY):
        # the questions above change nothing, so they do not notice a file that is damaged or a quota that is used up
        reasons.append("the database refuses to store things")
    return reasons + gateway.health.failures()


async def _error_text(work: Awaitable[object], what: str, recent: LogLimit) -> str:
    try:
        async with asyncio.timeout(TIMEOUT):
            await work
    except TimeoutError:
        return f"the database {what} within {TIMEOUT:g} s"
    except DatabaseUnavailable as error:
        if recent.is_due(what):
            log.warning("database_unavailable", reason=str(error))  # names the server: not for whoever reaches the port
        return f"the database {what}"
    return ""


async def _disk(gateway: Gateway) -> str:
    try:
        folder = gateway.settings.data_dir
        usage = await asyncio.to_thread(shutil.disk_usage, folder)
        reserve = await asyncio.to_thread(DiskReserve(folder, gateway.settings.disk_reserve).size)
    except OSError as error:
        return f"the data folder cannot be read: {error.strerror}"
    return "" if usage.free >= min(LEAST_FREE, reserve // 2) else "the disk of the data folder is almost full"
