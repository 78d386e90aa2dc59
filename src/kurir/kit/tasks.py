"""Supervised tasks: every background task has an owner that restarts it, logs its failures and reports its health.

Each part of the gateway starts its tasks in a `Tasks` of its own. `keep` restarts a task with growing pauses whenever
it fails; while it is down, and until it has run steadily again, it counts as failing in `TaskHealth`, which `/readyz`
and `/metrics` show. A vital task that keeps failing ends the process, so that a supervisor restarts it. `spawn` runs a
task once; its exception is logged and counted.

Only this module may create tasks (a lint checks it).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakSet

import structlog

from kurir.kit.backoff import Backoff
from kurir.reasons import Reason
from kurir.reasons.readiness import TASK_FAILS

T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, None]]

BACK_OFF_FIRST, BACK_OFF_MOST = 0.5, 30.0
"""Seconds before a failed task is restarted: the first pause and the longest; doubled with each failure in a row."""
STEADY = 60.0
"""Seconds of running after which the pauses begin small again. A task counts as recovered after as long as its last
pause, and after this at most."""
HOPELESS = 300.0
"""Seconds of continuous failure after which a vital task ends the process."""

log = structlog.get_logger(__name__)


class EndedError(Exception):
    """An endless task returned."""


class GaveUpError(Exception):
    """A vital task kept failing, and the process was shut down in order."""


class TaskHealth:
    """Health of the process's tasks and threads. One per process; parts report to it, health checks read it.

    `count_failure` is called with a task's name at each failure. Times are of the event loop's clock.
    """

    def __init__(self, count_failure: Callable[[str], None] = lambda _: None) -> None:
        self.count_failure = count_failure
        self._failing: dict[str, str] = {}
        self._hopeless: str | None = None
        self._ended = asyncio.Event()

    def failed(self, name: str, key: str, error: BaseException | str) -> None:
        """Records that a task or thread failed and is down."""
        self.count_failure(name)
        reason = error if isinstance(error, str) else f"{type(error).__name__}"
        self._failing[_label(name, key)] = reason

    def recovered(self, name: str, key: str = "") -> None:
        """Records that it runs again or is no longer needed."""
        self._failing.pop(_label(name, key), None)

    def failures(self) -> list[Reason]:
        """One reason for each failing task; empty when all is well. Contains no text from outside."""
        return [TASK_FAILS(task=task, error=kind) for task, kind in sorted(self._failing.items())]

    def failing(self) -> int:
        """Number of tasks that are down or keep failing."""
        return len(self._failing)

    def give_up(self, name: str, key: str = "") -> None:
        """Records that a vital task keeps failing and that the process has to end."""
        if self._hopeless is None:
            self._hopeless = _label(name, key)
            log.critical("process_failed", task=self._hopeless)
        self._ended.set()

    async def hopeless(self) -> str:
        """Waits for `give_up`; returns the task's name."""
        await self._ended.wait()
        assert self._hopeless is not None
        return self._hopeless


class Tasks:
    """The tasks of one part, from their start to `close`."""

    def __init__(self, health: TaskHealth | None = None) -> None:
        self._health = health or TaskHealth()
        self._running: set[asyncio.Task[Any]] = set()
        self._canceled: WeakSet[asyncio.Task[Any]] = WeakSet()

    def keep(
        self,
        name: str,
        work: Work,
        *,
        key: str = "",
        vital: bool = False,
        endless: bool = False,
        back_off: tuple[float, float] = (BACK_OFF_FIRST, BACK_OFF_MOST),
        hopeless: float = HOPELESS,
    ) -> asyncio.Task[None]:
        """Runs `work()` until it returns, and restarts it with growing pauses whenever it raises. An `endless` one must
        not return.

        `name` is the task's fixed name, for metrics and the log; `key` distinguishes several of one name. `vital`: the
        process ends when it has kept failing for `hopeless` seconds.
        """
        kept = self._kept(name, work, key=key, vital=vital, endless=endless, back_off=back_off, hopeless=hopeless)
        return self._start(kept, name, key)

    def spawn(self, name: str, work: Coroutine[Any, Any, T], *, key: str = "") -> asyncio.Task[T]:
        """Runs `work` once; an exception is logged and counted even when nobody awaits the task."""
        task = self._start(work, name, key)
        task.add_done_callback(lambda done: self._judge(done, name, key))
        return task

    def __len__(self) -> int:
        return len(self._running)

    async def close(self, timeout: float | None = None) -> None:
        """Cancels all tasks and waits for their end; with `timeout` they first have that many seconds to finish."""
        if timeout is not None and self._running:
            await asyncio.wait(set(self._running), timeout=timeout)
        while running := [task for task in self._running if task is not asyncio.current_task()]:
            for task in running:
                if task not in self._canceled:  # a second cancel would interrupt its cleanup
                    self._canceled.add(task)
                    task.cancel()
            done, _ = await asyncio.wait(running)  # not gather: cancelling `close` must not interrupt their cleanup
            for task in done:
                _ = task.cancelled() or task.exception()  # it has been logged

    # -- inside ----------------------------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, T], name: str, key: str) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work, name=_label(name, key))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _judge(self, task: asyncio.Task[Any], name: str, key: str) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._health.count_failure(name)
            log.error("task_failed", task=name, key=key or None, exc_info=error)

    async def _kept(
        self,
        name: str,
        work: Work,
        *,
        key: str,
        vital: bool,
        endless: bool,
        back_off: tuple[float, float],
        hopeless: float,
    ) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        backoff, failing_since = Backoff(*back_off), None
        try:
            while True:
                began = loop.time()
                steady = None
                if failing_since is not None:
                    steady = loop.call_later(min(STEADY, backoff.last), self._health.recovered, name, key)
                try:
                    await work()
                    if not endless or task.cancelling():
                        return
                    raise EndedError(f"{name} returned")  # noqa: TRY301 - handled like every other failure
                except (Exception, asyncio.CancelledError) as error:
                    if task.cancelling():  # `close`: whatever the work raised at its end, it is over
                        if not isinstance(error, asyncio.CancelledError):
                            self._health.count_failure(name)
                            log.exception("task_cleanup_failed", task=name, key=key or None)
                        raise
                    # a CancelledError now: the work itself canceled something it waited for
                    if loop.time() - began > STEADY:
                        failing_since = None
                        backoff.reset()
                    failing_since = failing_since or loop.time()
                    self._health.failed(name, key, error)
                    pause = backoff.after_failure()
                    log.exception("task_failed", task=name, key=key or None, again_in=pause)
                finally:
                    if steady is not None:
                        steady.cancel()
                if vital and loop.time() - failing_since > hopeless:
                    self._health.give_up(name, key)
                await asyncio.sleep(pause)
        finally:
            self._health.recovered(name, key)


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancels a task and waits for its end; its exception was reported where it was started."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task


def _label(name: str, key: str) -> str:
    return f"{name} {key}".rstrip()
