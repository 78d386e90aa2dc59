"""The engine host's program: the child process that runs the WhatsApp Web engine.

Started as `python -m kurir.channels.linked_device.engine_host.program CALLS NEWS`.

It speaks frames (see `protocol`) on the two sockets whose file descriptors it is given, and nothing on standard output:
commands and their answers on one, news on the other, so that an answer never waits behind news. Only the reader of a
journal may block on the gateway; all other news go through `notices`. The process ends with its parent: when a socket
closes, and by the kernel's parent-death signal. Opening and closing devices are serialized; each device has its own
workers, so that one that waits does not block another.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec

from kurir.channels.linked_device.engine_host.notices import Notices
from kurir.channels.linked_device.engine_host.sandbox_switch import trust_sandbox
from kurir.channels.linked_device.protocol import (
    Close,
    Command,
    Engine,
    Failed,
    News,
    Notice,
    NumberEvent,
    Open,
    Ping,
    Reply,
    Stored,
    Trouble,
    body_length,
    decode_request,
    sound_frame,
)
from kurir.kit import crash_points
from kurir.kit.deferred_imports import deferred
from kurir.reasons.numbers import NOT_ENCODED

_WORKERS_PER_DEVICE = 16
"""Concurrent calls per device: the sending window, and room for look-ups beside it."""
_PR_SET_PDEATHSIG = 1
_ORPHANED = 1
_FAILED = 70
_SELDOM_USED = (
    *("linkpreview", "requests", "httpx", "tqdm", "segno", "phonenumbers", "PIL"),
    "asyncio",
    *("neonize.utils.calc", "neonize.utils.ffmpeg", "neonize.utils.iofile", "neonize.utils.sticker"),
)
"""What neonize imports and needs only for methods that no host calls: stickers, link previews, printed QR codes."""
_NOT_ENCODABLE = (ValueError, TypeError, OverflowError, msgspec.MsgspecError)
"""What `sound_frame` raises for something that the gateway could not read."""


class Host:
    """Reads commands from a socket, has an engine carry them out, and writes answers to it and news to another."""

    def __init__(self, calls: socket.socket, news: socket.socket) -> None:
        self._calls = _Wire(calls)
        self._news = _Wire(news)
        self._notices = Notices(self._news.write)
        self._openings = ThreadPoolExecutor(1, "openings")
        self._journals = ThreadPoolExecutor(1, "journals")  # a slow disk must not block reading from the socket
        self._workers: dict[int, ThreadPoolExecutor] = {}

    def emit(self, news: News) -> bool:
        """Sends news to the gateway. While the gateway is behind, a journaled event blocks, and nothing else does.

        News that the gateway could not read are not sent: it gets a `Trouble` instead, and this returns False.
        """
        try:
            data = sound_frame(Notice(news))
        except _NOT_ENCODABLE as error:
            device = news.number_id if isinstance(news, NumberEvent) else news.device
            what = f"{type(news).__name__} could not be encoded: {type(error).__name__}"
            trouble = Trouble(device, what)
            self._notices.put(trouble, sound_frame(Notice(trouble)))
            return False
        if isinstance(news, NumberEvent):
            self._news.write(data)
        else:
            self._notices.put(news, data)
        return True

    def serve(self, engine: Engine) -> None:
        """Handles commands until the gateway closes the socket."""
        while (head := self._calls.read(4)) is not None:
            body = self._calls.read(body_length(head))
            if body is None:
                return
            request = decode_request(body)
            pool = self._pool(request.command)
            if pool is None:
                self._answer(engine, request.call, request.command)
            else:
                pool.submit(self._answer, engine, request.call, request.command)

    def _pool(self, command: Command) -> ThreadPoolExecutor | None:
        """The threads that perform a command; None for a ping, which is answered at once, however busy they are."""
        if isinstance(command, Ping):
            return None
        if isinstance(command, (Open, Close)):
            return self._openings
        if isinstance(command, Stored):
            return self._journals
        if command.device not in self._workers:
            self._workers[command.device] = ThreadPoolExecutor(_WORKERS_PER_DEVICE, f"calls-{command.device}")
        return self._workers[command.device]

    def _answer(self, engine: Engine, call: int, command: Command) -> None:
        answer = engine.perform(command)
        try:
            data = sound_frame(Reply(call, answer))
        except _NOT_ENCODABLE as error:
            data = sound_frame(Reply(call, Failed(NOT_ENCODED(error=type(error).__name__))))
        self._calls.write(data)


class _Wire:
    """A socket to the gateway; the process exits when the gateway closes it."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._writing = threading.Lock()

    def write(self, data: bytes) -> None:
        with self._writing:
            try:
                self._wire.sendall(data)
            except OSError:
                os._exit(_ORPHANED)

    def read(self, count: int) -> bytes | None:
        parts: list[bytes] = []
        while count:
            part = self._wire.recv(min(count, 1 << 20))
            if not part:
                return None
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def run(calls: socket.socket, news: socket.socket) -> None:
    """Runs a host on the real engine until the gateway closes its sockets."""
    # here and not above: the engine must be loaded after the parent-death signal has been set
    from kurir.channels.linked_device.engine_host.engine import NeonizeEngine  # noqa: PLC0415

    gc.freeze()  # what is loaded stays: no collection looks at it again
    for name in ("neonize", "whatsmeow", "Whatsmeow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("neonize.utils.log").setLevel(logging.WARNING)
    noise_root = os.environ.get("KURIR_SANDBOX_NOISE_ROOT", "")
    if noise_root:
        trust_sandbox(bytes.fromhex(noise_root), "neonize-linux")
        crash_points.arm(os.environ.get("KURIR_CRASH_AT", ""))
    host = Host(calls, news)
    limit, seconds = int(os.environ["KURIR_MEDIA_LIMIT"]), float(os.environ["KURIR_INCOMING_MEDIA_TIMEOUT"])
    host.serve(NeonizeEngine(host.emit, limit, seconds, int(os.environ["KURIR_DISK_RESERVE"])))


def main() -> None:
    """Entry point of the child process."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(_ORPHANED)  # the parent died before the signal was set
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(
            number, signal.SIG_IGN
        )  # a stop is handled by the gateway: sends may finish, then it ends its hosts
    status = _FAILED
    try:
        with deferred(*_SELDOM_USED):
            run(*(socket.socket(fileno=int(number)) for number in sys.argv[1:3]))
        status = 0
    except Exception:
        logging.exception("the engine host cannot go on")
    finally:
        # the engine's threads would keep the process alive; sessions are transactional, so exiting is safe
        os._exit(status)


if __name__ == "__main__":
    main()
