"""The small pieces: typing time, the map gate, the sandbox switch, session evidence, frames."""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurir.channels.linked_device import protocol as say
from kurir.channels.linked_device.engine_host import client_map_lock
from kurir.channels.linked_device.engine_host.client_map_lock import ClientMapLock
from kurir.channels.linked_device.engine_host.sandbox_switch import NOISE_ROOT, SandboxSwitchError, trust_sandbox
from kurir.channels.linked_device.engine_host.typing_time import typing_seconds
from kurir.messages.channel_reports import Sent
from kurir.messages.content import Document, Image, Location, Outgoing, Text


@given(st.text(max_size=300), st.floats(0, 1), st.floats(0, 60))
def test_typing_time_is_bounded_and_grows_with_the_text(text: str, per_character: float, most: float) -> None:
    seconds = typing_seconds(Text(text), per_character, most)
    assert 0 <= seconds <= most
    assert typing_seconds(Text(text + "x"), per_character, most) >= seconds
    assert typing_seconds(Image("u", text), per_character, most) == seconds
    assert typing_seconds(Document("u", "n", text), per_character, most) == seconds


def test_typing_time_of_a_pin_is_its_start() -> None:
    assert typing_seconds(Location(0, 0), 0.03, 4.0) == pytest.approx(0.4)
    assert typing_seconds(Text("a" * 50), 0.03, 4.0) == pytest.approx(1.9)


def _in_thread(work: Callable[[], None]) -> threading.Event:
    done = threading.Event()

    def run() -> None:
        work()
        done.set()

    threading.Thread(target=run, daemon=True).start()
    return done


def test_no_call_enters_during_a_change_and_changes_wait_for_the_last_entry() -> None:
    lock = ClientMapLock()
    lock.enter()
    before = time.monotonic()
    change = lock.change()
    assert time.monotonic() - before >= client_map_lock.SETTLE * 0.9
    entered = _in_thread(lock.enter)
    second = _in_thread(lambda: lock.change().end())
    assert not entered.wait(0.1)
    assert not second.is_set()
    change.end()
    change.end()
    assert entered.wait(5)
    assert second.wait(5)


def test_a_change_that_is_never_ended_does_not_block_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_map_lock, "TIMEOUT", 0.1)
    lock = ClientMapLock()
    lock.change()
    assert _in_thread(lock.enter).wait(5)


def _library(folder: Path, hits: int) -> tuple[Path, mmap.mmap]:
    path = folder / f"fake-engine-{hits}.so"
    path.write_bytes(os.urandom(5000) + (NOISE_ROOT + os.urandom(77)) * hits + os.urandom(5000))
    with path.open("r+b") as file:
        return path, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def test_the_sandbox_switch_replaces_one_key_in_memory_and_nothing_on_disk(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, memory = _library(tmp_path, 1)
    before = hashlib.sha256(path.read_bytes()).digest()
    trust_sandbox(b"\x07" * 32, path.name)
    assert memory.find(NOISE_ROOT) == -1
    assert memory.find(b"\x07" * 32) > 0
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert "SANDBOX" in capfd.readouterr().err
    with pytest.raises(SandboxSwitchError, match="0 times"):
        trust_sandbox(b"\x08" * 32, path.name)
    memory.close()


def test_the_sandbox_switch_refuses_what_is_not_certain(tmp_path: Path) -> None:
    path, memory = _library(tmp_path, 2)
    with pytest.raises(SandboxSwitchError, match="2 times"):
        trust_sandbox(b"\x07" * 32, path.name)
    assert memory[:].count(NOISE_ROOT) == 2
    memory.close()
    with pytest.raises(SandboxSwitchError, match="0 times"):
        trust_sandbox(b"\x07" * 32, "no-such-library")
    with pytest.raises(SandboxSwitchError, match="32 bytes"):
        trust_sandbox(b"short", path.name)


def test_frames_transport_commands_and_answers_unchanged() -> None:
    send = say.Send(3, Outgoing(2**62, "62812", Location(-6.2, 106.8, "Monas")), b"\x00\xff" * 16, 0.5)
    raw = say.frame(say.Request(9, send))
    assert say.body_length(raw[:4]) == len(raw) - 4
    assert say.decode_request(raw[4:]) == say.Request(9, send)
    for item in (say.Reply(9, Sent("3EB0")), say.Notice(say.QrShown(1, "qr"))):
        assert say.decode_upward(say.frame(item)[4:]) == item
    with pytest.raises(ValueError, match="too large"):
        say.body_length(b"\xff\xff\xff\xff")
