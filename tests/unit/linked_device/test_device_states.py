"""What a device says of its connection, event by event, on the engine's library but without its network."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tests.sentences import english
from tests.unit.linked_device.receiver_rig import OURS, TIMEOUT, ReceiverRig, complete

from kurir.channels.linked_device.engine_host import device, threads
from kurir.channels.linked_device.engine_host.client_map_lock import ClientMapLock
from kurir.channels.linked_device.engine_host.device import NeonizeDevice
from kurir.channels.linked_device.engine_host.engine import NeonizeEngine
from kurir.channels.linked_device.engine_host.media_fetches import Limits
from kurir.channels.linked_device.protocol import DeviceState, Done, Failed, News, Open, Unsteady

# isort: split
from neonize import events as ev
from neonize.proto.Neonize_pb2 import JID

JUST_NOW = 0.05
"""Seconds of probation here."""


class Bench:
    """A device that was never started, after a pause: its logins are on probation. `told` is what it said."""

    def __init__(self, folder: Path, *, most: int = 0) -> None:
        self.reported: list[News] = []
        opening = ReceiverRig.opening(folder, f"{OURS}:1@s.whatsapp.net")
        order = msgspec.structs.replace(opening, session=str(folder / "session.db"), short_connections=most, opening=3)
        self.device = NeonizeDevice(order, ClientMapLock(), self._emit, Limits(1_000_000, 1.0))
        me = SimpleNamespace(JID=JID(User=OURS, Server="s.whatsapp.net", RawAgent=0, Device=1, Integrator=0))
        self.device.client.get_me = lambda: me  # pyright: ignore[reportAttributeAccessIssue]
        self.device.client.disconnect = lambda: None  # pyright: ignore[reportAttributeAccessIssue]

    def _emit(self, news: News) -> bool:
        self.reported.append(news)
        return True

    def states(self) -> list[str]:
        return [one.state for one in self.reported if isinstance(one, DeviceState)]

    def raise_event(self, kind: type[Any], **values: Any) -> None:
        """The engine's event, through the device's own callback."""
        event = kind()
        if hasattr(event, "DESCRIPTOR"):
            complete(event)
        for name, value in values.items():
            setattr(event, name, value)
        self.device.client.event.list_func[ev.EVENT_TO_INT[kind]](self.device.client, event)


@pytest.fixture
def make_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Bench]]:
    monkeypatch.setattr(device, "PROBATION", JUST_NOW)
    benches: list[Bench] = []

    def make(**values: int) -> Bench:
        benches.append(Bench(tmp_path, **values))
        return benches[-1]

    yield make
    for bench in benches:
        bench.device.stop()


@pytest.fixture(autouse=True)
def others() -> Iterator[None]:
    """Threads that tests before this one left running are none of ours."""
    _OTHERS.clear()
    _OTHERS.update(threading.enumerate())
    yield
    _OTHERS.clear()


_OTHERS: set[threading.Thread] = set()


def over(name: str) -> None:
    """Waits until no thread of that name is left."""
    deadline = time.monotonic() + TIMEOUT
    while any(thread.name.startswith(name) for thread in set(threading.enumerate()) - _OTHERS):
        assert time.monotonic() < deadline
        time.sleep(0.005)


OVER: list[tuple[type[Any], dict[str, Any], str]] = [
    (ev.StreamReplacedEv, {}, "replaced"),
    (ev.LoggedOutEv, {}, "logged_out"),
    (ev.TemporaryBanEv, {}, "banned"),
    (ev.ConnectFailureEv, {}, "disconnected"),
    (ev.ClientOutdatedEv, {}, "outdated"),
]


def test_a_login_that_holds_counts_after_a_while(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.raise_event(ev.ConnectedEv)
    over("probation")
    assert bench.states() == ["connected"]
    assert [one.opening for one in bench.reported if isinstance(one, DeviceState)] == [3]


@pytest.mark.parametrize(("kind", "values", "state"), [*OVER, (ev.KeepAliveTimeoutEv, {}, "degraded")], ids=str)
def test_a_login_on_probation_does_not_undo_what_came_after_it(
    make_bench: Callable[..., Bench], kind: type[Any], values: dict[str, Any], state: str
) -> None:
    bench = make_bench()
    bench.raise_event(ev.ConnectedEv)
    bench.raise_event(kind, **values)
    over("probation")
    assert bench.states() == [state]


@pytest.mark.parametrize(("kind", "values", "state"), OVER, ids=str)
def test_a_device_that_has_given_up_says_no_more_of_a_connection(
    make_bench: Callable[..., Bench], kind: type[Any], values: dict[str, Any], state: str
) -> None:
    bench = make_bench(most=5)
    bench.raise_event(ev.ConnectedEv)
    bench.raise_event(kind, **values)
    for late in (ev.DisconnectedEv, ev.KeepAliveTimeoutEv, ev.KeepAliveRestoredEv, ev.ConnectedEv):
        bench.raise_event(late)
    assert bench.states() == ["connected", state]


def test_keep_alives_that_come_again_mend_only_what_they_broke(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(most=5)
    bench.raise_event(ev.ConnectedEv)
    bench.raise_event(ev.DisconnectedEv)
    bench.raise_event(ev.KeepAliveRestoredEv)
    assert bench.states() == ["connected", "connecting"]
    bench.raise_event(ev.ConnectedEv)
    bench.raise_event(ev.KeepAliveTimeoutEv)
    bench.raise_event(ev.KeepAliveRestoredEv)
    assert bench.states()[2:] == ["connected", "degraded", "connected"]


# -- a system that has no thread left ----------------------------------------------------------------------------------


def no_thread(*_: object) -> threading.Thread:
    raise RuntimeError("no thread could be started")


def test_a_device_whose_logins_do_not_hold_says_so_without_a_thread(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    monkeypatch.setattr(threads, "spawn", no_thread)
    bench.raise_event(ev.DisconnectedEv)
    bench.raise_event(ev.DisconnectedEv)
    assert [one for one in bench.reported if isinstance(one, Unsteady)] == [Unsteady(7, 1, opening=3)]


@pytest.mark.parametrize("most", [0, 5], ids=["on probation", "as usual"])
def test_a_device_connects_without_a_further_thread(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    bench = make_bench(most=most)
    with monkeypatch.context() as system:
        system.setattr(threads, "spawn", no_thread)
        system.setattr(threads, "keep", no_thread)
        bench.raise_event(ev.ConnectedEv)
    assert bench.states() == ["connected"]
    assert not bench.device._presence_due, "the next login tries again"


def test_a_code_for_which_there_was_no_thread_is_asked_for_with_the_next_qr(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    bench.device.order = msgspec.structs.replace(bench.device.order, phone=OURS)
    asked = threading.Event()
    monkeypatch.setattr(bench.device, "_ask_code", asked.set)
    with monkeypatch.context() as system:
        system.setattr(threads, "spawn", no_thread)
        with pytest.raises(RuntimeError):
            bench.device._on_qr(b"qr")
    bench.device._on_qr(b"qr")
    assert asked.wait(TIMEOUT)


@pytest.mark.parametrize("refused", ["receiver-", "fetches-", "liveness-", "device-"])
def test_a_device_that_cannot_be_started_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    reported: list[News] = []

    def raise_event(news: News) -> bool:
        reported.append(news)
        return True

    keep = threads.keep

    def scarce(name: str, *rest: Any) -> threading.Thread:
        return no_thread() if name.startswith(refused) else keep(name, *rest)

    engine = NeonizeEngine(raise_event, 1_000_000)
    opening = ReceiverRig.opening(tmp_path, f"{OURS}:1@s.whatsapp.net")
    order = msgspec.structs.replace(opening, session=str(tmp_path / "session.db"), check_after=60.0, opening=4)
    with monkeypatch.context() as system:
        system.setattr(threads, "keep", scarce)
        assert isinstance(engine.perform(order), Failed)
    (state,) = [one for one in reported if isinstance(one, DeviceState)]
    assert (state.state, state.retry_after, state.opening) == ("disconnected", 30.0, 4)
    assert english(state.reason) == "the device cannot be started: no thread could be started"
    over("receiver-7")
    over("fetches-7")
    started: list[Open] = []
    monkeypatch.setattr(NeonizeDevice, "start", lambda self: started.append(self.order))
    assert engine.perform(order) == Done(), "and it is: nothing is left of the first try"
    assert started == [order]
    engine._devices[7].stop()
    logging.getLogger("whatsmeow").removeHandler(engine._unencrypted)
