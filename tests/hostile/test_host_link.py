"""Answers of an engine host never wait behind its news, and one bad frame is one bad frame."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import select
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.sentences import english
from tests.unit.linked_device import receiver_rig  # noqa: F401  (loads the engine's library without its open pipes)
from tests.unit.linked_device.conftest import SCRIPT, Harness

from kurir.channels.linked_device import protocol as say
from kurir.channels.linked_device.engine_host.engine import NeonizeEngine
from kurir.channels.linked_device.engine_host.program import Host
from kurir.channels.linked_device.event_stream import EventStream
from kurir.channels.linked_device.host_process import HostLostError, HostProcess
from kurir.messages.channel_reports import ConnectionChanged, InDoubt, Refused, Sent, StatusChanged, TryLater
from kurir.messages.content import Outgoing, Text
from kurir.reasons import NOTHING, as_written
from kurir.reasons.numbers import NOT_ENCODED

# isort: split
from neonize.exc import NeonizeError, SendMessageError


class Stuck:
    """A consumer of news that takes none until it is let go."""

    def __init__(self) -> None:
        self.heard: list[say.News] = []
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, news: say.News) -> None:
        self.reached.set()
        await self.go_on.wait()
        self.heard.append(news)


@pytest.fixture
async def launched() -> AsyncIterator[Callable[..., Awaitable[HostProcess]]]:
    processes: list[HostProcess] = []

    async def launch(on_news) -> HostProcess:
        processes.append(await HostProcess.launch(SCRIPT, dict(os.environ), on_news))
        return processes[-1]

    yield launch
    for process in processes:
        process.kill()
        await process.ended()


def sending(text: str, message_id: int = 1) -> say.Send:
    return say.Send(7, Outgoing(message_id, "62812", Text(text), False), b"")


async def test_answers_pass_news_that_nobody_takes(launched):
    stuck = Stuck()
    process = await launched(stuck)
    # far more than both sockets and the reader hold: the host itself waits with its news
    flood = asyncio.create_task(process.call(sending("flood 50000"), 60))
    await stuck.reached.wait()
    for _ in range(20):
        assert isinstance(await process.call(say.Ping(), 10), say.Done)
    assert isinstance(await process.call(sending("other", 2), 10), Sent)
    assert not flood.done()
    stuck.go_on.set()
    assert isinstance(await flood, Sent)
    async with asyncio.timeout(30):
        while len(stuck.heard) < 50_000:
            await asyncio.sleep(0.01)
    assert [one.remote_id for one in stuck.heard if isinstance(one, StatusChanged)] == [f"m{n}" for n in range(50_000)]


async def test_refused_sends_pass_news_that_nobody_takes(launched):
    stuck = Stuck()
    process = await launched(stuck)
    flood = asyncio.create_task(process.call(sending("flood 50000"), 60))
    await stuck.reached.wait()
    for n in range(20):
        answer = await process.call(sending("refused 500", n + 2), 10)
        assert answer == Refused("not_on_whatsapp", as_written("no"))
    assert not flood.done()
    stuck.go_on.set()
    assert isinstance(await flood, Sent)

    def lost() -> list[say.Trouble]:
        return [one for one in stuck.heard if isinstance(one, say.Trouble) and one.kind == "notices_dropped"]

    async with asyncio.timeout(30):
        while not lost() or sum(isinstance(one, say.Paired) for one in stuck.heard) < 20:
            await asyncio.sleep(0.01)
    assert sum(isinstance(one, StatusChanged) for one in stuck.heard) == 50_000, "a journaled event is never dropped"
    states = [english(one.reason) for one in stuck.heard if isinstance(one, say.DeviceState)]
    assert states[-1] == "state 499", "the newest state of a device is never dropped"
    emitted = sum(isinstance(one, (say.Trouble, say.Unread, say.StoreFailed, say.DeviceState)) for one in stuck.heard)
    dropped = sum(int(one.what.split()[0]) for one in lost())
    assert emitted - len(lost()) + dropped == 20 * 500 * 4, "what was dropped is counted"


@pytest.fixture
def full_host() -> Iterator[Host]:
    """A host in this process whose news socket nobody reads, filled to the brim by a thread that waits."""
    ours, theirs = socket.socketpair()
    calls, their_calls = socket.socketpair()
    with ours, theirs, calls, their_calls:
        host = Host(their_calls, theirs)
        count = itertools.count()
        emitted = threading.Event()

        def flood() -> None:
            while not emitted.is_set():
                host.emit(StatusChanged(1, 7, f"m{next(count)}", "read", 1.0))

        flooding = threading.Thread(target=flood, daemon=True)
        flooding.start()
        seen = -1
        while seen != (seen := repr(count)):
            time.sleep(0.2)
        yield host
        emitted.set()
        # without its gateway a host ends its process, which is this one: all must be written before the sockets close
        while flooding.is_alive() or host._notices._waiting or select.select([ours], [], [], 0.3)[0]:
            if select.select([ours], [], [], 0.01)[0]:
                ours.recv(1 << 20)


class Failing:
    """A device's address book whose engine fails at a step of a send."""

    def __init__(self, host: Host, step: str) -> None:
        self.step = step
        self.device = self
        self.client = self
        self.state = ("connected", "")
        self.order = say.Open(7, 1, "", "", "")
        self.report = lambda what, kind="": host.emit(say.Trouble(7, what, kind))

    def refusal(self, _recipient: str) -> None:
        if self.step == "look-up":
            raise NeonizeError("no answer")
        if self.step == "unforeseen":
            raise LookupError("unforeseen")

    def address(self, recipient: str) -> str:
        return recipient

    def forget(self, _recipient: str) -> None:
        pass

    def unreached(self, _recipient: str, _left_out: set[str]) -> bool:
        return False

    def call(self, ask: Callable[[], Any]) -> Any:
        return ask()

    def send_message(self, _to: str, _message: object) -> Any:
        if self.step == "send":
            raise SendMessageError("server returned error 479")
        if self.step == "wire":
            raise LookupError("unforeseen")
        return SimpleNamespace(ID="W1")


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ("look-up", TryLater),
        ("send", (Refused, TryLater, InDoubt)),
        ("left out", Sent),
        ("unforeseen", TryLater),
        ("wire", InDoubt),
    ],
)
def test_however_a_send_ends_the_real_engine_answers_while_news_are_stuck(full_host: Host, step: str, kind: Any):
    engine = NeonizeEngine(full_host.emit, 1_000)
    engine._directories[7] = engine._devices[7] = Failing(full_host, step)  # pyright: ignore[reportArgumentType]
    log = logging.getLogger("whatsmeow")
    answers: list[say.HostReply] = []

    def send() -> None:
        if step == "left out":
            log.warning("Failed to encrypt W1 for 62812:3@s.whatsapp.net: no keys")
        log.warning("Error decrypting message X from Y: database is locked")  # the engine's log thread says it, too
        answers.append(engine.perform(sending("halo")))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    thread.join(10)
    log.removeHandler(engine._unencrypted)
    assert answers, f"a send whose {step} fails waits behind news"
    assert isinstance(answers[0], kind)


def test_what_is_unforeseen_before_the_wire_is_tried_again_and_after_it_is_doubt():
    reported: list[say.News] = []
    host = SimpleNamespace(emit=lambda news: reported.append(news) or True)
    engine = NeonizeEngine(host.emit, 1_000)
    for step, kind in (("unforeseen", TryLater), ("wire", InDoubt)):
        engine._directories[7] = Failing(host, step)  # pyright: ignore[reportArgumentType]
        answer = engine.perform(sending("halo"))
        assert isinstance(answer, kind)
        if isinstance(answer, TryLater):
            assert answer.counted, "one that fails each time must end"
    logging.getLogger("whatsmeow").removeHandler(engine._unencrypted)
    assert [one.kind for one in reported if isinstance(one, say.Trouble)][-2:] == ["call_failed"] * 2


@pytest.mark.parametrize("command", [sending("hang"), sending("slow 60")])
async def test_a_call_keeps_its_time_while_news_are_stuck(launched, command: say.Send):
    stuck = Stuck()
    process = await launched(stuck)
    await process.call(sending("news qr"), 10)
    await stuck.reached.wait()
    began = time.monotonic()
    with pytest.raises(HostLostError):
        await process.call(command, 1.0)
    assert time.monotonic() - began < 8
    async with asyncio.timeout(5):
        await process.ended()


async def test_a_host_that_dies_while_news_are_stuck_is_gone_at_once(launched):
    stuck = Stuck()
    process = await launched(stuck)
    await process.call(sending("news qr"), 10)
    await stuck.reached.wait()
    with pytest.raises(HostLostError):
        await process.call(sending("die"), 60)
    async with asyncio.timeout(5):
        await process.ended()
    stuck.go_on.set()
    await asyncio.sleep(0)
    assert stuck.heard == [], "what a dead host said of its connections is over"


async def test_a_frame_that_cannot_be_read_is_skipped_and_counted(launched):
    heard: list[say.News] = []

    async def hear(news: say.News) -> None:
        heard.append(news)

    process = await launched(hear)
    assert isinstance(await process.call(sending("unreadable 9"), 10), Sent)
    await process.call(sending("flood 1"), 10)
    async with asyncio.timeout(10):
        while len(heard) < 6:
            await asyncio.sleep(0.01)
    assert [one.remote_id for one in heard if isinstance(one, StatusChanged)] == ["m0", "m2", "m4", "m6", "m8", "m0"]
    assert process.unreadable == 4
    assert isinstance(await process.call(say.Ping(), 10), say.Done)


async def test_a_host_never_sends_what_cannot_be_read(launched):
    heard: list[say.News] = []

    async def hear(news: say.News) -> None:
        heard.append(news)

    process = await launched(hear)
    assert isinstance(await process.call(sending("tells halo"), 10), Sent)
    answer = await process.call(sending("answers nonsense"), 10)
    assert answer == say.Failed(NOT_ENCODED(error="UnicodeEncodeError"))
    # bytes where a text belongs can be encoded, and not be read
    answer = await process.call(sending("answers bytes"), 10)
    assert answer == say.Failed(NOT_ENCODED(error="ValidationError"))
    async with asyncio.timeout(10):
        while len(heard) < 4:
            await asyncio.sleep(0.01)
    assert [one for one in heard if isinstance(one, say.Trouble)][1:] == [
        say.Trouble(7, f"Trouble could not be encoded: {why}") for why in ("UnicodeEncodeError", "ValidationError")
    ]
    assert sum(isinstance(one, StatusChanged) for one in heard) == 1
    assert process.unreadable == 0


async def test_news_that_break_their_consumer_do_not_end_the_news(launched):
    heard: list[say.News] = []

    async def choke(news: say.News) -> None:
        heard.append(news)
        if len(heard) % 2:
            raise RuntimeError("unforeseen")

    process = await launched(choke)
    await process.call(sending("flood 10"), 10)
    async with asyncio.timeout(10):
        while len(heard) < 10:
            await asyncio.sleep(0.01)
    assert isinstance(await process.call(say.Ping(), 10), say.Done)


async def test_a_channel_whose_events_nobody_takes_sends_and_stops_in_time(tmp_path: Path):
    """The database is away and everything that waits for it is full."""
    harness = Harness(tmp_path)
    number = harness.number(paired=True)
    await harness.channel.start()  # and nobody follows
    await harness.connected(number)
    flood = asyncio.create_task(harness.send(number, "flood 60000"))
    async with asyncio.timeout(30):
        while len(harness.channel._events._events) < 10_000:
            await asyncio.sleep(0.01)
    assert isinstance(await harness.send(number, "other", 2), Sent)
    assert isinstance(await harness.send(number, "die", 3), InDoubt)  # and the host comes back
    await flood
    async with asyncio.timeout(20):
        while not harness.channel.ready(number):
            await asyncio.sleep(0.05)
    began = time.monotonic()
    await harness.channel.close()
    assert time.monotonic() - began < 5


async def test_the_stream_makes_news_wait_and_not_the_gateway():
    stream = EventStream(3)
    receipt, change = StatusChanged(1, 7, "m", "read", 1.0), ConnectionChanged(1, 7, "connecting", NOTHING, 1.0)
    for _ in range(3):
        await stream.put(receipt)
    waiting = asyncio.create_task(stream.put(receipt))
    await stream.put_now(change)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    found = []
    taking = asyncio.create_task(_collect(stream, found))
    await waiting
    await stream.end()
    await taking
    assert found == [receipt, receipt, receipt, change, receipt]
    await stream.put(receipt)  # after the end nothing waits any more


async def _collect(stream: EventStream, found: list) -> None:
    found.extend([event async for event in stream.events()])
