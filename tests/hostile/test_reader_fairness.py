"""Floods of reads: an account's, a stranger's, long lists, work that hangs. Everybody else reads as if alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection
from tests.harness.gateway import open_harness

from kurir.kit.shared_threads import Full, SharedThreads
from kurir.store.database import _POOLS, Database, DatabaseUnavailable, Overloaded


@pytest.fixture
async def database(where: Path | str) -> AsyncIterator[Database]:
    database = Database(where)
    await database.start()
    yield database
    await database.close()


def one(connection: Connection) -> int:
    return connection.exec_driver_sql("SELECT 1").scalar() or 0


THREADS = _POOLS["work"][0]
HALF = THREADS // 2
"""What one account alone may occupy."""


class Flood:
    """Reads that hang until they are let go."""

    def __init__(self, database: Database, count: int, **which: Any) -> None:
        self.released = threading.Event()
        self.begun = 0
        self.tasks = [asyncio.create_task(database.read(self._hang, timeout=60, **which)) for _ in range(count)]

    def _hang(self, _: Connection) -> None:
        self.begun += 1
        assert self.released.wait(60)

    async def flowing(self, begun: int) -> None:
        """Waits until so many hang in a thread."""
        await until(lambda: self.begun >= begun)

    async def end(self) -> None:
        self.released.set()
        await asyncio.gather(*self.tasks)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("flood", "reader"),
    [
        pytest.param({"of": 1}, {"of": 2}, id="another account"),
        pytest.param({"of": 1}, {}, id="the gateway itself"),
        pytest.param({}, {"of": 1}, id="an account beside the gateway's own work"),
        pytest.param({"of": 1, "pool": "lists"}, {"of": 1}, id="the same account's short reads"),
        pytest.param({"of": 1, "pool": "lists"}, {"of": 2, "pool": "lists"}, id="another account's lists"),
        pytest.param({"of": "x", "pool": "strangers"}, {"of": 1}, id="an account beside strangers"),
        pytest.param({"of": 1}, {"of": "x", "pool": "strangers"}, id="strangers"),
        pytest.param({"of": 1}, {"pool": "probe"}, id="health checks"),
    ],
)
async def test_a_flood_delays_whoever_makes_it(
    database: Database, flood: dict[str, Any], reader: dict[str, Any]
) -> None:
    flooding = Flood(database, 300, **flood)
    await flooding.flowing(1)
    await asyncio.sleep(0.8)  # longer than healthy work takes: nobody else may be told that the database stands still
    answers = [database.read(one, timeout=0.2, **reader) for _ in range(20)]
    async with asyncio.timeout(10):
        assert await asyncio.gather(*answers) == [1] * 20
    await flooding.end()
    await database.close()


async def test_who_hangs_is_answered_in_time_and_nobody_else(database: Database) -> None:
    flooding = Flood(database, HALF, of=1)
    await flooding.flowing(HALF)
    late = [asyncio.create_task(database.read(one, of=1, timeout=0.1)) for _ in range(5)]
    for task in late:
        with pytest.raises(DatabaseUnavailable):
            await task
    assert await database.read(one, of=2, timeout=0.1) == 1
    await flooding.end()
    assert await database.read(one, of=1) == 1


async def test_two_accounts_whose_reads_hang_leave_a_thread_to_others(database: Database) -> None:
    floods = [Flood(database, 50, of=account) for account in range(2)]
    for flood in floods:
        await flood.flowing(1)
    await asyncio.sleep(0.8)  # longer than healthy work takes
    assert await asyncio.gather(*(database.read(one, of=99, timeout=0.2) for _ in range(20))) == [1] * 20
    assert await asyncio.gather(*(database.read(one, timeout=0.2) for _ in range(20))) == [1] * 20
    for flood in floods:
        await flood.end()


async def test_when_every_thread_hangs_everybody_is_answered_in_time(database: Database) -> None:
    floods = [Flood(database, 20, of=account) for account in range(3)]  # one half, then a third, then the last place
    for flood in floods:
        await flood.flowing(1)
    for account in (0, 2, 3):
        with pytest.raises(DatabaseUnavailable):
            await database.read(one, of=account, timeout=0.1)
    for flood in floods:
        await flood.end()


async def test_a_long_queue_that_moves_is_waited_for_also_while_others_hang(database: Database) -> None:
    def some(connection: Connection) -> int:
        threading.Event().wait(0.01)
        return one(connection)

    flooding = Flood(database, 2, of=1)
    await flooding.flowing(2)
    await asyncio.sleep(0.8)
    assert await asyncio.gather(*(database.read(some, of=2, timeout=0.1) for _ in range(100))) == [1] * 100
    await flooding.end()


@pytest.mark.parametrize("how", ["cancelled", "given up"])
async def test_what_nobody_waits_for_any_more_is_not_begun(database: Database, how: str) -> None:
    flooding = Flood(database, HALF, of=1)
    await flooding.flowing(HALF)
    begun: list[int] = []
    waiting = [asyncio.create_task(database.read(lambda _: begun.append(1), of=1, timeout=0.1)) for _ in range(20)]
    await asyncio.sleep(0)
    if how == "cancelled":
        for task in waiting:
            task.cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in results} == {
        asyncio.CancelledError if how == "cancelled" else DatabaseUnavailable
    }
    await flooding.end()
    assert await database.read(one, of=1) == 1
    assert begun == []


async def test_strangers_may_not_pile_up_without_end(database: Database) -> None:
    flooding = Flood(database, 1, of="x", pool="strangers")
    await flooding.flowing(1)
    waiting = [asyncio.create_task(database.read(one, of=i, pool="strangers", timeout=60)) for i in range(500)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await database.read(one, of="y", pool="strangers")
    assert await database.read(one, of=1) == 1
    await flooding.end()
    assert await asyncio.gather(*waiting) == [1] * 500


async def test_a_probe_is_right_while_accounts_flood(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as harness:
        floods = [Flood(harness.gateway.database, 50, of=account) for account in range(2)]
        for flood in floods:
            await flood.flowing(2)
        assert await harness.gateway.services.health.not_ready() == []
        for flood in floods:
            await flood.end()


# -- turns by themselves -------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=60))
def test_everybody_has_a_turn(order: list[str]) -> None:
    """With one thread: between two jobs of one, everybody who waits meanwhile gets one done."""

    async def run() -> list[str]:
        turns = SharedThreads("test", 1, room=1_000)
        go, done = threading.Event(), []
        first = turns.put(lambda: go.wait(10), "first")
        await until(lambda: first.began is not None)
        jobs = [turns.put(lambda of=of: done.append(of), of) for of in order]
        go.set()
        await asyncio.gather(*(job.future for job in jobs))
        await asyncio.to_thread(turns.close)
        return done

    done = asyncio.run(run())
    assert sorted(done) == sorted(order)
    for round_ in range(max(order.count(of) for of in set(order))):
        expected = {of for of in set(order) if order.count(of) > round_}
        start = sum(min(order.count(of), round_) for of in set(order))
        assert set(done[start : start + len(expected)]) == expected


async def test_threads_are_used_as_far_as_there_is_work() -> None:
    turns = SharedThreads("test", 4, room=100)
    together = threading.Barrier(4, timeout=10)
    for _ in range(5):  # also by threads that had nothing to do before
        await asyncio.gather(*(turns.put(together.wait, of).future for of in range(4)))
    await asyncio.to_thread(turns.close)


async def test_a_job_that_fails_ends_no_thread_and_a_full_room_is_reported() -> None:
    def broken() -> None:
        raise KeyError("x")

    turns = SharedThreads("test", 1, room=1)
    for _ in range(3):
        with pytest.raises(KeyError):
            await turns.put(broken, None).future
    go = threading.Event()
    held = turns.put(lambda: go.wait(10), 1)
    await until(lambda: held.began is not None)
    last = turns.put(lambda: 7, 1)
    with pytest.raises(Full):
        turns.put(lambda: 8, 2)
    closing = asyncio.create_task(asyncio.to_thread(turns.close))
    go.set()
    assert await last.future == 7  # what was handed in is finished
    await closing
    with pytest.raises(Full):
        turns.put(lambda: 9, 2)


async def test_a_system_without_threads_is_a_refusal_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = SharedThreads("test", 2, room=10)
    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", _no_thread)
        with pytest.raises(Full):
            turns.put(lambda: 1, 1)
        assert turns.waiting() == 0
    async with asyncio.timeout(10):
        assert await turns.put(lambda: 2, 1).future == 2
    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", _no_thread)
        async with asyncio.timeout(10):  # the thread that runs takes it
            assert await turns.put(lambda: 3, 1).future == 3
    await asyncio.to_thread(turns.close)


def _no_thread(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
