"""Whether the gateway can take messages now."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable

import structlog

from kurir.kit.disk_reserve import DiskReserve
from kurir.kit.file_failures import file_failure
from kurir.kit.log_limit import LogLimit
from kurir.kit.tasks import TaskHealth
from kurir.reasons import NOTHING, Code, Reason
from kurir.reasons import readiness as reasons
from kurir.settings import Settings
from kurir.store.database import Database, DatabaseUnavailable

TIMEOUT = 1.0
"""Seconds in which the database must answer."""
LATELY = 10.0
"""Seconds for which a transaction that the database refused counts."""
LEAST_FREE = 64 * 1024 * 1024
"""Bytes that must be free in the data folder, or half of the reserve that files leave, where that is less: files may
fill the rest, and the gateway still takes messages."""

log = structlog.get_logger(__name__)


class Health:
    """Checks the database, the disk and the long-lived tasks."""

    def __init__(self, database: Database, tasks: TaskHealth, settings: Settings) -> None:
        self._database = database
        self._tasks = tasks
        self._settings = settings
        self._recent = LogLimit()

    async def not_ready(self) -> list[Reason]:
        """Why the gateway cannot take messages now; empty when it can.

        Details that only the log may show go there, once in a while.
        """
        database = self._database
        answers = await asyncio.gather(
            _failure(
                database.read(lambda c: c.exec_driver_sql("SELECT 1").scalar(), pool="probe"),
                reasons.NO_READS,
                reasons.SLOW_READS,
                self._recent,
            ),
            _failure(database.write(lambda c: None), reasons.NO_WRITES, reasons.SLOW_WRITES, self._recent),
            self._disk(),
        )
        found = [answer for answer in answers if answer]
        if not found and database.refused_within(LATELY):
            # the questions above change nothing: they do not notice a damaged file or a quota that is used up
            found.append(reasons.NOTHING_STORED())
        return found + self._tasks.failures()

    async def _disk(self) -> Reason:
        try:
            folder = self._settings.data_dir
            usage = await asyncio.to_thread(shutil.disk_usage, folder)
            reserve = await asyncio.to_thread(DiskReserve(folder, self._settings.disk_reserve).size)
        except OSError as error:
            return reasons.FOLDER_NOT_READ(error=file_failure(error))
        return NOTHING if usage.free >= min(LEAST_FREE, reserve // 2) else reasons.DISK_ALMOST_FULL()


async def _failure(work: Awaitable[object], fails: Code, slow: Code, recent: LogLimit) -> Reason:
    try:
        async with asyncio.timeout(TIMEOUT):
            await work
    except TimeoutError:
        return slow(seconds=TIMEOUT)
    except DatabaseUnavailable as error:
        if recent.is_due(fails.code):
            log.warning("database_unavailable", reason=str(error))  # names the server: not for callers
        return fails()
    return NOTHING
