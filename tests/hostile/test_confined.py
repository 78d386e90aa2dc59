"""Work in confined processes: whatever a job does, it fails alone, and the next one is done."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kurir.kit.limited_process import Confined, Limits, TooCostly, TooSlow

PROGRAM = "tests.hostile.confined_program"
ROOT = Path(__file__).parents[2]
LIMITS = Limits(memory=100_000_000, cpu=1, seconds=60.0, answer=5_000)


@contextlib.asynccontextmanager
async def confined(processes: int = 2, limits: Limits = LIMITS, idle: float = 60.0) -> AsyncIterator[Confined]:
    work = Confined(PROGRAM, processes, limits, idle)
    try:
        yield work
    finally:
        await work.close()


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.parametrize(
    ("job", "why"),
    [
        (b"memory", "too much memory"),
        (b"cpu", "too much processor time"),
        (b"crash", "more than it may take"),
        (b"long", "more than it may take"),
    ],
)
async def test_what_takes_too_much_fails_alone(job: bytes, why: str) -> None:
    async with confined() as work:
        assert await work.run(1, b"before") == b"BEFORE"
        with pytest.raises(TooCostly, match=why):
            await work.run(1, job)
        assert await work.run(1, b"after") == b"AFTER"


async def test_what_is_killed_by_the_system_fails_alone() -> None:
    async with confined() as work:
        await work.run(1, b"before")
        (pid,) = work.pids
        os.kill(pid, signal.SIGSTOP)
        job = asyncio.ensure_future(work.run(1, b"now"))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)  # as the kernel does when memory runs out
        with pytest.raises(TooSlow):
            await job
        assert await work.run(1, b"after") == b"AFTER"
        assert work.pids != [pid]


async def test_what_hangs_is_ended_and_blamed_on_the_machine() -> None:
    async with confined(limits=Limits(memory=100_000_000, cpu=1, seconds=0.3)) as work:
        await work.run(1, b"before")
        (pid,) = work.pids
        with pytest.raises(TooSlow):
            await work.run(1, b"sleep")
        assert await work.run(1, b"after") == b"AFTER"
    assert not is_alive(pid)


async def test_a_program_that_breaks_says_why() -> None:
    async with confined() as work:
        with pytest.raises(RuntimeError, match="ValueError: what it says"):
            await work.run(1, b"raise")
        with pytest.raises(TooCostly):
            await work.run(1, b"exit")
        assert await work.run(1, b"after") == b"AFTER"


async def test_a_program_that_cannot_start_does_not_refuse_the_job() -> None:
    work = Confined("tests.hostile.no_such_program", 1, LIMITS)
    with pytest.raises(OSError, match="did not start"):
        await work.run(1, b"x")
    await work.close()


async def test_a_cancelled_job_leaves_no_answer_for_the_next() -> None:
    async with confined() as work:
        job = asyncio.ensure_future(work.run(1, b"sleep"))
        await asyncio.sleep(0.3)
        job.cancel()
        await asyncio.wait([job])
        assert await work.run(1, b"after") == b"AFTER"


async def test_secrets_of_the_gateway_stay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KURIR_DATABASE_URL", "postgresql://secret")
    async with confined() as work:
        assert b"KURIR" not in await work.run(1, b"environment")


async def test_idle_processes_end() -> None:
    async with confined(idle=0.05) as work:
        await work.run(1, b"x")
        (pid,) = work.pids
        async with asyncio.timeout(10):
            while work.pids or is_alive(pid):
                await asyncio.sleep(0.01)
        assert await work.run(1, b"again") == b"AGAIN"


async def test_one_account_keeps_one_of_two_processes_busy_the_other_is_for_others() -> None:
    async with confined() as work:
        flood = [asyncio.ensure_future(work.run(1, b"sleep")) for _ in range(20)]
        await asyncio.sleep(0)
        assert await work.run(2, b"mine") == b"MINE"
        assert await work.run(3, b"mine too") == b"MINE TOO"
        for job in flood:
            job.cancel()
        await asyncio.wait(flood)
