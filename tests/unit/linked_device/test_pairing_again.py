"""A number that is paired again meets nothing of before: no late news, no clearing up, no pause."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.sentences import english
from tests.unit.linked_device.conftest import Harness
from tests.unit.linked_device.scripted_host import PAIRS_AT_ONCE

from kurir.channels.linked_device import connections, hosts, pairing_progress, protocol
from kurir.channels.linked_device.host_process import HostLostError
from kurir.channels.linked_device.logins import MOST
from kurir.kit import tasks
from kurir.messages.content import Outgoing, Text
from kurir.numbers.numbers import Number
from kurir.reasons import as_written

pytestmark = pytest.mark.processes

MakeHarness = Callable[..., Awaitable[Harness]]
PHONE = "6281234567890"
LATE = ("qr", "code", "paired", "pair-failed", "unsteady", "connected", "logged_out", "replaced", "banned")


@pytest.fixture(autouse=True)
def long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections.logins, "pause", lambda _times: 3600.0)


def session_of(harness: Harness, number: Number) -> Path:
    return harness.folder / "devices" / f"{number.key}.db"


def pid_of(harness: Harness, number: Number) -> int:
    """The process its device lives in, connected or not."""
    slot = harness.channel._connections.hosts._slot(number.id)
    assert slot is not None
    assert slot.process is not None
    return slot.process.pid


async def script(harness: Harness, number: Number, text: str) -> None:
    """Has a device's engine do something, connected or not."""
    command = protocol.Send(number.id, Outgoing(1, "62812", Text(text)), b"")
    with contextlib.suppress(HostLostError):  # what it tells may end its host before it answers
        await harness.channel._connections.hosts.call(number.id, command, 10)


async def unsteady(harness: Harness, number: Number) -> None:
    """A device whose logins do not hold: its engine was stopped."""
    await script(harness, number, "news unsteady")
    await harness.until(lambda: harness.channel.state(number)[0] == "disconnected")
    connection = harness.channel._connections.of(number)
    await harness.until(lambda: connection.reopening is not None)
    assert connection.pauses == 1


def opened(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> list[protocol.Open]:
    """The orders to open a device, from now on."""
    orders: list[protocol.Open] = []
    open_ = harness.channel._connections.hosts.open

    async def noting(order: protocol.Open, *, alone: bool) -> None:
        orders.append(order)
        await open_(order, alone=alone)

    monkeypatch.setattr(harness.channel._connections.hosts, "open", noting)
    return orders


async def test_a_number_that_was_left_alone_is_paired_as_any_other(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = await make_harness(2)
    number = harness.numbers[0]
    await unsteady(harness, number)
    session_of(harness, number).unlink()
    orders = opened(harness, monkeypatch)
    pairing = await harness.channel.start_pairing(number, PHONE)
    await harness.until(lambda: bool(pairing.code))
    assert [one.short_connections for one in orders] == [MOST]


@pytest.mark.parametrize("what", LATE)
async def test_late_news_of_before_do_not_touch_a_pairing(make_harness: MakeHarness, what: str) -> None:
    harness = await make_harness(2)
    number, neighbour = harness.numbers[:2]
    await unsteady(harness, number)
    session = session_of(harness, number)
    session.unlink()
    pairing = await harness.channel.start_pairing(number, PHONE)
    await harness.until(lambda: bool(pairing.code))
    session.touch()
    own, before = pid_of(harness, number), len(harness.events)
    await script(harness, neighbour, f"late {number.id} {what}")
    await script(harness, neighbour, "news degraded")  # comes after it, on the same socket
    await harness.until(lambda: any(one.number_id == neighbour.id for one in harness.events[before:]))
    assert (pairing.state, pairing.code, pairing.qr, english(pairing.error)) == ("code", "ABCD-1234", "", "")
    assert harness.channel.state(number)[0] == "pairing"
    assert not any(one.number_id == number.id for one in harness.events[before:])
    assert session.exists()
    assert pid_of(harness, number) == own, "its host lives on"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("news unsteady", "again and again"),
        ("state banned 3600", "is banned"),
        ("state disconnected 60", "is disconnected"),
        ("state outdated", "is outdated"),
        ("state replaced", "is replaced"),
    ],
)
async def test_a_device_that_gives_up_fails_its_pairing_with_the_reason(
    make_harness: MakeHarness, text: str, reason: str
) -> None:
    harness = await make_harness(0)
    (number,) = harness.numbers
    pairing = await harness.channel.start_pairing(number, PHONE)
    await harness.until(lambda: bool(pairing.code))
    await script(harness, number, text)
    await harness.until(lambda: not pairing.running)
    assert reason in english(pairing.error)
    await harness.until(lambda: harness.channel.state(number) == ("disconnected", pairing.error))
    again = await harness.channel.start_pairing(number, PHONE)
    await harness.until(lambda: bool(again.code))


async def test_a_session_that_turns_out_void_while_it_is_paired_is_deleted(make_harness: MakeHarness) -> None:
    harness = await make_harness(1)
    number = harness.numbers[0]
    await unsteady(harness, number)
    session = session_of(harness, number)
    session.unlink()
    pairing = await harness.channel.start_pairing(number, PHONE)
    await harness.until(lambda: bool(pairing.code))
    session.touch()
    await script(harness, number, "state logged_out")
    await harness.until(lambda: not session.exists())
    assert (pairing.state, english(pairing.error)) == ("failed", "is logged_out")
    assert harness.channel.state(number)[0] == "logged_out"


@pytest.mark.parametrize("ends", ["logged_out", "pair-failed"])
async def test_clearing_up_after_what_was_before_spares_the_new_session(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    harness = await make_harness(1 if ends == "logged_out" else 0)
    number = harness.numbers[0]
    session = session_of(harness, number)
    if ends == "pair-failed":
        first = await harness.channel.start_pairing(number, PHONE)
        await harness.until(lambda: bool(first.code))
    reached, go_on = asyncio.Event(), asyncio.Event()
    close = harness.channel._connections.hosts.close

    async def slow(device: int) -> None:
        if not reached.is_set():
            reached.set()
            await close(device)
            await go_on.wait()
        await close(device)

    monkeypatch.setattr(harness.channel._connections.hosts, "close", slow)
    await script(harness, number, "state logged_out" if ends == "logged_out" else "news pair-failed")
    await reached.wait()
    begun = asyncio.create_task(harness.channel.start_pairing(number, PAIRS_AT_ONCE))
    with pytest.raises(TimeoutError):  # it waits for the clearing up, or has come up meanwhile
        async with asyncio.timeout(1.0):
            await harness.connected(number)
    go_on.set()
    await begun
    await harness.connected(number)
    kept = harness.channel._connections._tasks._running
    await harness.until(lambda: not any(one.get_name().startswith(("session-removal", "pairing-end")) for one in kept))
    assert session.exists()
    assert harness.channel.state(number)[0] == "connected"


async def test_a_pairing_that_cannot_be_begun_is_over(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = await make_harness(0)
    (number,) = harness.numbers

    def full(_number: Number) -> Any:
        raise OSError("no space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(harness.channel._sessions, "place", full)
        with pytest.raises(OSError, match="no space"):
            await harness.channel.start_pairing(number, PHONE)
    pairing = harness.channel.pairing(number)
    assert pairing is not None
    assert (pairing.state, english(pairing.error)) == ("failed", "the pairing could not be begun; try again")
    await harness.until(lambda: harness.channel.state(number)[0] == "disconnected")
    again = await harness.channel.start_pairing(number, PHONE)
    await harness.until(lambda: bool(again.code))


async def test_a_session_from_before_a_pairing_that_failed_is_tried_again(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A paired number whose pairing was begun and canceled does not stay away until the gateway's next start."""
    monkeypatch.setattr(connections, "_SHORTEST_BAN", 0.1)
    harness = await make_harness(1)
    number = harness.numbers[0]
    await unsteady(harness, number)

    with monkeypatch.context() as silent:
        silent.setattr(hosts.Hosts, "open", never)
        await harness.channel.start_pairing(number)
        await harness.channel.stop_pairing(number)
    await harness.connected(number)


async def expired(harness: Harness, number: Number, monkeypatch: pytest.MonkeyPatch) -> None:
    pairing = harness.channel.pairing(number)
    assert pairing is not None
    await harness.until(lambda: pairing.state == "expired")


async def canceled(harness: Harness, number: Number, monkeypatch: pytest.MonkeyPatch) -> None:
    await harness.channel.stop_pairing(number)


async def refused(harness: Harness, number: Number, monkeypatch: pytest.MonkeyPatch) -> None:
    await script(harness, number, "news pair-failed")


@pytest.mark.parametrize("end", [expired, canceled, refused])
async def test_however_a_pairing_ends_it_is_cleared_up_once_the_disk_lets_it(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch, end: Callable[..., Awaitable[None]]
) -> None:
    monkeypatch.setitem(tasks.Tasks.keep.__kwdefaults__, "back_off", (0.05, 0.1))
    if end is expired:
        monkeypatch.setattr(pairing_progress, "LIFETIME", 4.0)
    harness = await make_harness(0)
    (number,) = harness.numbers
    tries: list[Number] = []
    forget = harness.channel._sessions.forget

    def fails_twice(asked: Number) -> None:
        tries.append(asked)
        if len(tries) < 3:
            raise PermissionError("the folder is another user's")
        forget(asked)

    pairing = await harness.channel.start_pairing(number, PHONE)
    await harness.until(lambda: bool(pairing.code))
    session_of(harness, number).touch()
    monkeypatch.setattr(harness.channel._sessions, "forget", fails_twice)
    await end(harness, number, monkeypatch)
    await harness.until(lambda: harness.channel.state(number) == ("disconnected", pairing.error))
    assert len(tries) == 3
    assert not session_of(harness, number).exists()


async def test_a_ban_that_ends_a_pairing_is_waited_for(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_SHORTEST_BAN", 0.1)
    harness = await make_harness(1)
    number = harness.numbers[0]
    await unsteady(harness, number)
    connection = harness.channel._connections.of(number)
    monkeypatch.setattr(hosts.Hosts, "open", never)
    pairing = await harness.channel.start_pairing(number)
    connection.reopening = None
    news = protocol.DeviceState(
        number.id, "banned", as_written("is banned"), retry_after=3_600.0, opening=connection.opening
    )
    await harness.channel._connections._on_news(news)
    await harness.until(lambda: connection.reopening is not None)
    assert english(pairing.error) == "is banned"
    left = connection.reopening.when() - asyncio.get_running_loop().time()
    assert 3_500 < left <= 3_600


async def test_a_device_is_opened_again_once_whatever_was_reported_before(make_harness: MakeHarness) -> None:
    harness = await make_harness(1)
    number = harness.numbers[0]
    connection = harness.channel._connections.of(number)
    timers: set[asyncio.TimerHandle] = set()
    for seconds in (3_600.0, 7_200.0, 1_800.0):
        await harness.channel._connections._reopen_later(connection, seconds)
        assert connection.reopening is not None
        timers.add(connection.reopening)
    assert {timer for timer in timers if not timer.cancelled()} == {connection.reopening}
    await harness.channel.close()
    assert all(timer.cancelled() for timer in timers), "nothing begins after the end"


async def test_a_timer_that_is_set_while_all_is_closed_does_not_fire(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = await make_harness(1)
    number = harness.numbers[0]
    channel, connection = harness.channel._connections, harness.channel._connections.of(number)
    waiting = asyncio.Event()

    async def at_its_end() -> None:
        try:
            waiting.set()
            await asyncio.Event().wait()
        finally:
            await channel._reopen_later(connection, 3_600.0)

    channel._keep("device-reopening", connection, at_its_end)
    await waiting.wait()
    await harness.channel.close()
    assert connection.reopening is not None
    assert connection.reopening.cancelled()


async def never(*_: object, **__: object) -> None:
    """Opens nothing."""
