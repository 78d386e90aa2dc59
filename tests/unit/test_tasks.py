"""Tasks with an owner: restarted, counted, complained of while down; a vital one that is hopeless ends the process."""

from __future__ import annotations

import ast
import asyncio
from collections import Counter
from pathlib import Path

import pytest
from tests.sentences import all_english

import kurir
from kurir.kit.tasks import TaskHealth, Tasks

SHORT = (0.01, 0.02)


class Flaky:
    """Work that fails as often as it is told, then runs until it is canceled."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.runs = 0
        self.steady = asyncio.Event()

    async def __call__(self) -> None:
        self.runs += 1
        if self.runs <= self.failures:
            raise RuntimeError("unforeseen")
        self.steady.set()
        await asyncio.Event().wait()


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_kept_task_comes_back_and_is_reported_until_it_is_steady() -> None:
    failed: Counter[str] = Counter()
    health = TaskHealth(lambda name: failed.update([name]))
    tasks, work = Tasks(health), Flaky(3)
    tasks.keep("inbox", work, key="devices", back_off=SHORT)
    await until(lambda: failed["inbox"] >= 1)
    assert all_english(health.failures()) == ["the task inbox devices keeps failing (RuntimeError)"]
    assert health.failing() == 1
    async with asyncio.timeout(10):
        await work.steady.wait()
    assert work.runs == 4
    assert failed == {"inbox": 3}
    await until(lambda: not health.failures())  # once it has run for a while
    await tasks.close()


async def test_a_task_that_keeps_failing_stays_reported() -> None:
    health = TaskHealth()
    tasks, work = Tasks(health), Flaky(10**9)
    tasks.keep("sweep", work, back_off=SHORT)
    await until(lambda: work.runs >= 1)
    for _ in range(20):
        before = work.runs
        await until(lambda before=before: work.runs > before)
        assert health.failures()
    await tasks.close()
    assert health.failures() == []  # stopped is not failing


async def test_a_task_that_is_canceled_by_its_own_work_is_a_failure_like_any_other() -> None:
    health = TaskHealth()
    tasks, runs = Tasks(health), []

    async def canceled() -> None:
        runs.append(1)
        inner = asyncio.get_running_loop().create_future()
        inner.cancel()
        await inner

    tasks.keep("inbox", canceled, vital=True, endless=True, back_off=SHORT)
    await until(lambda: len(runs) >= 3)
    assert all_english(health.failures()) == ["the task inbox keeps failing (CancelledError)"]
    await tasks.close()
    assert health.failures() == []


@pytest.mark.parametrize("endless", [False, True])
@pytest.mark.parametrize("error", [OSError("the disk is gone"), TimeoutError(), None], ids=repr)
async def test_a_kept_task_whose_end_fails_is_over_all_the_same(error: Exception | None, endless: bool) -> None:
    """`close` cancels once: work that began again would never end. None: the work swallows being canceled."""
    failed: Counter[str] = Counter()
    health = TaskHealth(lambda name: failed.update([name]))
    tasks, runs = Tasks(health), []

    async def work() -> None:
        runs.append(1)
        try:
            await asyncio.Event().wait()
        finally:
            if error is not None and len(runs) == 1:  # so that the test ends also where the fix is missing
                raise error
            return  # noqa: B012 - a library may do so

    kept = tasks.keep("inbox", work, endless=endless, back_off=SHORT)
    await until(lambda: runs)
    async with asyncio.timeout(5):
        await tasks.close()
    assert (kept.done(), len(tasks), runs) == (True, 0, [1])
    assert health.failures() == []
    assert failed["inbox"] == (1 if error else 0), "whoever looks at the metrics sees that it failed"


async def test_an_endless_task_must_not_return() -> None:
    health = TaskHealth()
    tasks, runs = Tasks(health), []

    async def returns() -> None:
        runs.append(1)

    tasks.keep("heartbeat", returns, endless=True, back_off=SHORT)
    await until(lambda: len(runs) >= 3)
    assert all_english(health.failures()) == ["the task heartbeat keeps failing (EndedError)"]
    await tasks.close()


async def test_a_task_that_may_return_is_not_started_again() -> None:
    tasks, runs = Tasks(), []

    async def returns() -> None:
        runs.append(1)

    await tasks.keep("lane", returns)
    assert runs == [1]
    await until(lambda: not len(tasks))


async def test_a_vital_task_that_cannot_be_helped_ends_the_process() -> None:
    health = TaskHealth()
    tasks = Tasks(health)
    tasks.keep("heartbeat", Flaky(10**9), vital=True, back_off=SHORT, hopeless=0.0)
    async with asyncio.timeout(10):
        assert await health.hopeless() == "heartbeat"
    await tasks.close()


async def test_one_that_is_not_vital_never_ends_the_process() -> None:
    health, work = TaskHealth(), Flaky(10**9)
    tasks = Tasks(health)
    tasks.keep("maintenance", work, back_off=SHORT, hopeless=0.0)
    await until(lambda: work.runs > 10)
    hopeless = tasks.spawn("look", health.hopeless())
    await asyncio.sleep(0)
    assert not hopeless.done()
    await tasks.close()


async def test_what_a_spawned_task_raises_is_counted_and_does_not_hurt_others() -> None:
    failed: Counter[str] = Counter()
    tasks = Tasks(TaskHealth(lambda name: failed.update([name])))

    async def breaks() -> None:
        raise ValueError("unforeseen")

    async def goes_on() -> int:
        return 7

    broken, good = tasks.spawn("send", breaks()), tasks.spawn("send", goes_on())
    assert await good == 7
    with pytest.raises(ValueError, match="unforeseen"):
        await broken
    await until(lambda: failed["send"] == 1)


async def test_close_gives_tasks_time_and_cancels_what_takes_longer() -> None:
    tasks, ended = Tasks(), []

    async def quick() -> None:
        await asyncio.sleep(0)
        ended.append("quick")

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("slow")

    tasks.spawn("a", quick())
    tasks.spawn("b", slow())
    await tasks.close(0.05)
    assert ended == ["quick", "slow"]
    assert len(tasks) == 0


def test_nothing_else_creates_tasks_or_threads() -> None:
    """A bare task or thread has nobody who notices its end."""
    root = Path(kurir.__file__).parent
    # the demo awaits the two tasks that it starts
    tasks, threads = (
        {"kit/tasks.py", "demo/demo.py"},
        {"store/writer.py", "kit/shared_threads.py", "channels/linked_device/engine_host/threads.py"},
    )
    found: list[str] = []
    for file in sorted(set(root.rglob("*.py")) - set((root / "bench").rglob("*.py"))):  # what is measured, not served
        where = file.relative_to(root).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in {"create_task", "ensure_future", "start_new_thread"} and where not in tasks:
                found.append(f"{where}:{node.lineno} {name}")
            if name == "Thread" and where not in threads:
                found.append(f"{where}:{node.lineno} {name}")
    assert found == []


async def test_a_second_close_and_one_that_is_given_up_do_not_cut_off_how_a_task_ends() -> None:
    tasks, may_end, over = Tasks(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()
            over.set()

    tasks.spawn("work", work())
    await asyncio.sleep(0)
    first, second = asyncio.create_task(tasks.close()), asyncio.create_task(tasks.close())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not second.done()
    may_end.set()
    await second
    assert over.is_set()
