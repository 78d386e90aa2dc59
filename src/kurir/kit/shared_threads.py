"""Thread pools shared fairly between accounts, for database reads and password checks.

Each `SharedThreads` is a pool of its own, so that a flood in one does not delay another. Within a pool a thread is a
place of `turns.Shares`: no account occupies more threads than are left for others, however many jobs it submits.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import structlog

from kurir.kit.fair_sharing import Shares

log = structlog.get_logger(__name__)

STANDSTILL = 0.75
"""Seconds above which a job counts as stuck."""


class Full(Exception):  # noqa: N818 - a state, not a mistake
    """The queue of the pool is full."""


class Job:
    """A submitted piece of work, its owner and its future. `began`: monotonic seconds, None while it waits for a
    thread."""

    __slots__ = ("began", "future", "of", "work")

    def __init__(self, work: Callable[[], Any], of: Hashable, future: asyncio.Future[Any]) -> None:
        self.work = work
        self.of = of
        self.future = future
        self.began: float | None = None


class SharedThreads:
    """A pool of up to `threads` threads, started on demand. Used from one event loop.

    room: how many jobs may wait. prepared: called once in each new thread.
    """

    def __init__(self, name: str, threads: int, *, room: int, prepared: Callable[[], None] = lambda: None) -> None:
        self._name = name
        self._shares: Shares[Job] = Shares(threads)
        self._room = room
        self._prepared = prepared
        self._changed = threading.Condition(threading.Lock())
        self._ready: deque[Job] = deque()
        """Jobs that have a place, for the next free thread."""
        self._count = 0
        self._running: set[Job] = set()
        self._started: list[threading.Thread] = []
        self._idle = 0
        self._closing = False

    def put(self, work: Callable[[], Any], of: Hashable) -> Job:
        """Submits work for `of`; its result or exception is set on the job's future. Raises Full."""
        loop = asyncio.get_running_loop()
        job = Job(work, of, loop.create_future())
        with self._changed:
            if self._count >= self._room or self._closing:
                raise Full(f"more than {self._room} wait for {self._name}")
            self._count += 1
            self._admit(self._shares.ask(of, job), loop)
            if not self._started:  # no thread would ever run it
                self._ready.remove(job)
                self._shares.leave(of)
                self._count -= 1
                raise Full(f"the system starts no thread for {self._name}")
        return job

    def _admit(self, given: Sequence[Job], loop: asyncio.AbstractEventLoop, *, free: int = 0) -> None:
        """Provides a thread for each of these jobs: one of those about to be `free`, an idle one, or a new one."""
        for number, job in enumerate(given):
            self._ready.append(job)
            if number < free:
                continue
            if self._idle:
                self._idle -= 1
                self._changed.notify()
            elif len(self._started) < self._shares.places:
                self._start(loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts one more thread; when the system refuses, the running threads go on and the next job tries again."""
        thread = threading.Thread(target=self._run, args=(loop,), name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            log.exception("thread_failed", pool=self._name)
            return
        self._started.append(thread)

    def take_back(self, job: Job) -> None:
        """Withdraws a job that nobody awaits any more; one that has begun runs to its end."""
        with self._changed:
            if self._shares.withdraw(job.of, job):
                self._count -= 1
            elif job in self._ready:
                self._ready.remove(job)
                self._count -= 1
                self._admit(self._shares.leave(job.of), asyncio.get_running_loop())

    def stands(self, job: Job) -> bool:
        """Whether this job is stuck: it runs longer than `STANDSTILL`, or every thread that it could get does. A long
        queue that moves is not stuck."""
        late = time.monotonic() - STANDSTILL
        with self._changed:
            if job.began is not None:
                return job.began < late
            stuck = [other.of for other in self._running if other.began is not None and other.began < late]
        return self._shares.full_with(job.of, stuck)

    def waiting(self) -> int:
        """Number of jobs that wait for a thread."""
        return self._count

    def close(self) -> None:
        """Finishes all submitted jobs, then ends the threads; blocks until then. Idempotent."""
        with self._changed:
            self._closing = True
            self._idle = 0
            self._changed.notify_all()
        for thread in self._started:
            thread.join()

    # -- the threads -----------------------------------------------------------------------------------------------

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        self._prepared()
        while (job := self._next()) is not None:
            result, error = None, None
            try:
                result = job.work()
            except BaseException as raised:
                error = raised
            with self._changed:
                self._running.discard(job)
                self._admit(self._shares.leave(job.of), loop, free=1)
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
                loop.call_soon_threadsafe(_resolve, job, result, error)
            del job, result, error  # an idle thread must keep no references

    def _next(self) -> Job | None:
        """Waits for the next job with a place; None when the pool is closing and empty."""
        with self._changed:
            while not self._ready:
                if self._closing and not self._shares.waiting:
                    self._changed.notify_all()
                    return None
                self._idle += 1  # the notifier decrements it
                self._changed.wait()
            job = self._ready.popleft()
            self._count -= 1
            job.began = time.monotonic()
            self._running.add(job)
            return job


def _resolve(job: Job, result: Any, error: BaseException | None) -> None:
    if job.future.done():
        return  # its caller no longer waits
    if error is not None:
        job.future.set_exception(error)
    else:
        job.future.set_result(result)
