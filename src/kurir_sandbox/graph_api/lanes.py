"""Lanes: work of one lane runs one job at a time in order, lanes run side by side."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable

import structlog

log = structlog.get_logger(__name__)

Job = Callable[[], Awaitable[None]]


class Lanes:
    """Jobs by lane. A lane exists while it has jobs; jobs must be found again by their owner after a restart."""

    def __init__(self) -> None:
        self._jobs: dict[Hashable, deque[Job]] = {}
        self._workers: dict[Hashable, asyncio.Task[None]] = {}

    def add(self, lane: Hashable, job: Job) -> None:
        """Run `job` after the jobs already in `lane`."""
        self._jobs.setdefault(lane, deque()).append(job)
        if lane not in self._workers:
            self._workers[lane] = asyncio.get_running_loop().create_task(self._work(lane))

    async def stop(self) -> None:
        """Cancel what runs and forget what waits."""
        workers = list(self._workers.values())
        self._jobs.clear()
        self._workers.clear()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, lane: Hashable) -> None:
        jobs = self._jobs[lane]
        while jobs:
            try:
                await jobs.popleft()()
            except Exception:
                # One broken job must not hold up its lane for ever.
                log.exception("lane_job_failed", lane=str(lane))
        if self._jobs.get(lane) is jobs:
            del self._jobs[lane], self._workers[lane]
