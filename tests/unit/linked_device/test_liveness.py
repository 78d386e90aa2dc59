"""When a quiet device is asked for a sign of life, and when its line counts as dead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from kurir.channels.linked_device.engine_host import liveness
from kurir.channels.linked_device.engine_host.liveness import Liveness
from kurir.settings import Settings

ENGINE_PING_AT_MOST, ENGINE_PING_TIMEOUT = 30.0, 10.0
"""Seconds, read in whatsmeow: KeepAliveIntervalMax, KeepAliveResponseDeadline."""


class Line:
    """A device's line as a test wants it."""

    def __init__(self) -> None:
        self.asked = 0
        self.checks: list[float] = []
        self.silences = 0
        self.connected = True
        self.answer: Callable[[], object] = lambda: None
        self.found = threading.Event()

    def ask(self) -> object:
        self.asked += 1
        return self.answer()

    def silent(self) -> None:
        self.silences += 1
        self.connected = False
        self.found.set()

    def check(self, seconds: float) -> None:
        self.checks.append(seconds)
        self.found.set()

    @contextmanager
    def followed(self, after: float, timeout: float) -> Iterator[Liveness]:
        closing = threading.Event()
        one = Liveness(
            after=after,
            timeout=timeout,
            ask=self.ask,
            connected=lambda: self.connected,
            on_answer=self.check,
            on_timeout=self.silent,
        )
        thread = threading.Thread(target=one.run, args=(closing,), daemon=True)
        thread.start()
        yield one
        closing.set()
        thread.join(10)
        assert not thread.is_alive()


def fail(words: str) -> Callable[[], object]:
    def answer() -> object:
        raise RuntimeError(words)

    return answer


def test_the_defaults_find_a_dead_line_within_60_seconds():
    settings = Settings()
    assert settings.device_check_after + settings.device_check_timeout + liveness._AGAIN < 60
    assert ENGINE_PING_AT_MOST + ENGINE_PING_TIMEOUT < 60, "with the check turned off"


def test_a_quiet_line_is_asked_and_its_answer_is_timed():
    line = Line()
    line.answer = lambda: time.sleep(0.05)
    with line.followed(0.05, 5):
        assert line.found.wait(10)
    assert line.checks[0] >= 0.05
    assert line.silences == 0


def test_where_something_is_heard_nothing_is_asked():
    line = Line()
    with line.followed(2.0, 5) as one:
        for _ in range(50):
            one.heard()
            time.sleep(0.05)
    assert line.asked == 0


def test_no_answer_within_the_deadline_is_a_dead_line():
    line, released = Line(), threading.Event()
    line.answer = lambda: released.wait(20)
    with line.followed(0.05, 0.2):
        assert line.found.wait(10)
        assert line.silences == 1
        released.set()


def test_a_refusal_is_an_answer():
    line = Line()
    line.answer = fail("info query returned status 429: rate-overlimit")
    with line.followed(0.05, 5):
        assert line.found.wait(10)
    assert line.checks
    assert line.silences == 0


@pytest.mark.parametrize("words", ["info query timed out", "websocket not connected"])
def test_a_line_that_fails_and_does_not_say_so_is_dead(words: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(liveness, "_AGAIN", 0.1)
    line = Line()
    line.answer = fail(words)
    with line.followed(0.05, 5):
        assert line.found.wait(10)
    assert line.silences == 1


def test_a_line_that_says_it_is_lost_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(liveness, "_AGAIN", 0.1)
    line, asked = Line(), threading.Event()

    def lost() -> object:
        line.connected = False
        asked.set()
        raise RuntimeError("websocket disconnected before info query returned response")

    line.answer = lost
    with line.followed(0.05, 5):
        assert asked.wait(10)
        assert not line.found.wait(0.5)
    assert line.asked == 1
