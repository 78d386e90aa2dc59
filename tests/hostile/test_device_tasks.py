"""The tasks and threads behind linked devices are broken in turn: each comes back, and the devices with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.sentences import all_english, english
from tests.unit.linked_device.conftest import KEY, SCRIPT, Harness

from kurir.channels.linked_device import host_process
from kurir.channels.linked_device import protocol as say
from kurir.channels.linked_device.channel import LinkedDevices
from kurir.channels.linked_device.connections import Connections
from kurir.channels.linked_device.engine_host import threads
from kurir.channels.linked_device.host_process import HostLostError, HostProcess
from kurir.channels.linked_device.hosts import Hosts
from kurir.channels.linked_device.sessions import FileSessions
from kurir.kit import tasks
from kurir.kit.tasks import TaskHealth
from kurir.messages.channel_reports import Sent
from kurir.messages.content import Outgoing, Text


class Place(Harness):
    """A desk whose channel reports to a health of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.health = TaskHealth()
        self.channel = LinkedDevices(self.settings, KEY, self._list, time.time, SCRIPT, health=self.health)


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setitem(tasks.Tasks.keep.__kwdefaults__, "back_off", (0.05, 0.2))
    place = Place(tmp_path)
    place.number(paired=True)
    yield place
    await place.stop()


class Break:
    """Makes an asynchronous or plain method raise while `on`."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self.on = True
        original = getattr(owner, name)

        def check() -> None:
            if self.on:
                raise RuntimeError("broken on purpose")

        async def asynchronous(*arguments: Any, **named: Any) -> Any:
            check()
            return await original(*arguments, **named)

        def plain(*arguments: Any, **named: Any) -> Any:
            check()
            return original(*arguments, **named)

        patch.setattr(owner, name, asynchronous if asyncio.iscoroutinefunction(original) else plain)


async def until(condition: Callable[[], Awaitable[Any] | Any], what: str) -> None:
    try:
        async with asyncio.timeout(20):
            while True:
                found = condition()
                if await found if asyncio.iscoroutine(found) else found:
                    return
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what) from None


async def sends(place: Place) -> bool:
    return isinstance(await place.send(place.numbers[0], "halo", 5), Sent)


async def test_a_host_that_cannot_be_launched_is_launched_later(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Break(monkeypatch, Hosts, "launch")
    await place.start()
    await until(place.health.failures, "nobody complains of the host")
    assert english(place.health.failures()[0]).startswith("the task engine-host")
    broken.on = False
    await until(lambda: sends(place), "the device does not come back")
    await until(lambda: not place.health.failures(), "the complaint stays")


async def test_the_loss_of_a_host_is_handled_even_if_handling_it_fails_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.start()
    await until(lambda: sends(place), "the device does not connect")
    broken = Break(monkeypatch, Hosts, "lost")
    await place.send(place.numbers[0], "die", 6)  # the scripted host ends itself
    await until(place.health.failures, "nobody complains")
    broken.on = False
    await until(lambda: sends(place), "the device does not come back")


async def test_a_restart_that_fails_is_tried_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await place.start()
    await until(lambda: sends(place), "the device does not connect")
    broken = Break(monkeypatch, FileSessions, "place")
    connections: Connections = place.channel._connections
    connection = connections.of(place.numbers[0])
    connection.state = "degraded"
    connections._keep("device-restart", connection, lambda: connections._restart(connection))
    await until(place.health.failures, "nobody complains")
    assert all_english(place.health.failures()) == ["the task device-restart 1 keeps failing (RuntimeError)"]
    broken.on = False
    await until(lambda: sends(place), "the device does not come back")


async def scripted(health: TaskHealth, on_news: Callable[[say.News], Awaitable[None]] | None = None) -> HostProcess:
    async def ignore(_news: say.News) -> None:
        """Takes no notice."""

    return await HostProcess.launch(SCRIPT, dict(os.environ), on_news or ignore, health)


def ordered(text: str) -> say.Send:
    return say.Send(7, Outgoing(1, "62812", Text(text), False), b"")


async def test_threads_of_a_host_that_keep_failing_are_seen_until_they_run_again() -> None:
    counted: list[str] = []
    health = TaskHealth(counted.append)
    process = await scripted(health)

    async def failures() -> list[str]:
        await process.call(say.Ping(), 10)
        return all_english(health.failures())

    try:
        assert await failures() == []
        await process.call(ordered("breaks receiver-7 fetches-9"), 10)
        async with asyncio.timeout(20):
            while len(await failures()) < 2:
                await asyncio.sleep(0.01)
        for _ in range(5):
            found = await failures()
        assert found == [
            f"the task device-thread {name} of {process.pid} keeps failing (RuntimeError)"
            for name in ("fetches-9", "receiver-7")
        ]
        assert counted == ["device-thread"] * 2, "a failure is counted when it begins, not with every ping"
        await process.call(ordered("mends"), 10)
        async with asyncio.timeout(30):
            while await failures():
                await asyncio.sleep(0.05)
    finally:
        process.kill()
        await process.ended()


async def test_a_host_that_is_gone_has_no_failing_threads() -> None:
    health = TaskHealth()
    process = await scripted(health)
    await process.call(ordered("breaks receiver-7"), 10)
    async with asyncio.timeout(20):
        while not health.failures():
            await process.call(say.Ping(), 10)
            await asyncio.sleep(0.01)
    process.kill()
    await process.ended()
    assert health.failures() == []


def test_a_thread_counts_as_failing_until_it_has_run_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    closing, go_on = threading.Event(), threading.Event()
    runs: list[float] = []

    def work() -> None:
        runs.append(time.monotonic())
        if len(runs) < 3:
            raise RuntimeError("unforeseen")
        go_on.wait()

    monkeypatch.setattr(threads, "BACK_OFF_FIRST", 0.2)
    thread = threads.keep("reader-1", work, closing, lambda _: None)
    while len(runs) < 3:
        time.sleep(0.01)
    assert threads.failing() == {"reader-1": "RuntimeError"}
    while threads.failing():
        time.sleep(0.01)
    assert time.monotonic() - runs[-1] >= 0.35, "as long as its last pause"
    go_on.set()
    thread.join(20)


def test_a_good_run_makes_the_next_pause_small_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closing(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            return len(pauses) == 6

    pauses: list[float] = []
    runs: list[int] = []

    def work() -> None:
        runs.append(1)
        if len(runs) == 4:
            time.sleep(0.3)
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(threads, "STEADY", 0.2)
    threads.keep("reader-2", work, Closing(), lambda _: None).join(20)
    assert pauses == [0.5, 1.0, 2.0, 0.5, 1.0, 2.0]
    assert threads.failing() == {}, "one that has ended is nobody's complaint"


@pytest.mark.parametrize("name", ["_frame", "_note_threads", "_watch", "_drain", "_hear"])
async def test_a_host_whose_side_in_the_gateway_fails_is_ended(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def broken(*_: Any) -> Any:
        raise LookupError("unforeseen")

    async def broken_task(*_: Any) -> Any:
        raise LookupError("unforeseen")

    monkeypatch.setattr(HostProcess, name, broken if name == "_note_threads" else broken_task)
    failures: list[str] = []
    process = await scripted(TaskHealth(failures.append))
    with contextlib.suppress(HostLostError):
        await process.call(say.Ping(), 10)
        await process.call(ordered("breaks reader"), 10)
        await process.call(say.Ping(), 10)
    async with asyncio.timeout(10):
        await process.ended()
        while not failures:
            await asyncio.sleep(0)
    assert english(process.why_lost).startswith("the gateway failed")
    assert not process.killed_from_outside


async def test_a_frame_nested_too_deep_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_deep(_body: bytes) -> Any:
        raise RecursionError

    process = await scripted(TaskHealth())
    try:
        assert isinstance(await process.call(say.Ping(), 10), say.Done)
        with monkeypatch.context() as patch:
            patch.setattr(host_process, "decode_upward", too_deep)
            await process.call(say.ListContacts(7), 1)
    except HostLostError as error:
        assert "did not answer" in str(error), "only the answer that could not be read is missing"
    assert process.unreadable == 1


def test_a_thread_of_a_host_is_started_again_and_reported() -> None:
    closing, done, reports, runs = threading.Event(), threading.Event(), [], []

    def work() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise RuntimeError("unforeseen")
        done.set()

    thread = threads.keep("reader", work, closing, reports.append)
    assert done.wait(20)
    thread.join(20)
    assert reports == ["the thread reader failed: RuntimeError: unforeseen"] * 2


def test_a_thread_that_fails_for_ever_ends_with_its_device() -> None:
    closing, failed = threading.Event(), threading.Event()

    def report(_sentence: str) -> None:
        failed.set()

    thread = threads.keep("reader", lambda: 1 / 0 and None, closing, report)
    assert failed.wait(20)
    closing.set()
    thread.join(20)
    assert not thread.is_alive()


def test_one_that_runs_once_is_reported() -> None:
    reports: list[str] = []
    threads.spawn("code", lambda: 1 / 0 and None, reports.append).join(20)
    assert reports == ["the thread code failed: ZeroDivisionError: division by zero"]
