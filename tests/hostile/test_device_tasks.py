"""The tasks and threads behind linked devices are broken in turn: each comes back, and the devices with it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.linked_device.conftest import KEY, SCRIPT, Desk

from kurir.channels.linked_device import threads
from kurir.channels.linked_device.channel import LinkedDevices
from kurir.channels.linked_device.connections import Connections
from kurir.channels.linked_device.hosts import Hosts
from kurir.channels.linked_device.sessions import FileSessions
from kurir.foundation import tasks
from kurir.foundation.tasks import TaskHealth
from kurir.messages.reports import Sent


class Place(Desk):
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
    broken = Break(monkeypatch, Hosts, "_launch")
    await place.start()
    await until(place.health.complaints, "nobody complains of the host")
    assert place.health.complaints()[0].startswith("the task engine-host")
    broken.on = False
    await until(lambda: sends(place), "the device does not come back")
    await until(lambda: not place.health.complaints(), "the complaint stays")


async def test_the_loss_of_a_host_is_handled_even_if_handling_it_fails_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.start()
    await until(lambda: sends(place), "the device does not connect")
    broken = Break(monkeypatch, Hosts, "_lost")
    await place.send(place.numbers[0], "die", 6)  # the scripted host ends itself
    await until(place.health.complaints, "nobody complains")
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
    await until(place.health.complaints, "nobody complains")
    assert place.health.complaints() == ["the task device-restart 1 keeps failing (RuntimeError)"]
    broken.on = False
    await until(lambda: sends(place), "the device does not come back")


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
