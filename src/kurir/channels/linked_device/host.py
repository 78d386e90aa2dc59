"""An engine host: the child process that runs the WhatsApp Web engine.

Started as `python -m kurir.channels.linked_device.host FD`.

It speaks frames (see `engine`) on the socket whose file descriptor it is given, and nothing on standard output. It
ends with its parent: when the socket closes, and by the kernel's parent-death signal. Opening and closing devices
come one at a time; each device has its own workers, so that one that waits does not hold up another.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from kurir.channels.linked_device.engine import (
    Close,
    Command,
    Engine,
    News,
    Notice,
    Open,
    Ping,
    Reply,
    Stored,
    body_length,
    decode_request,
    frame,
)
from kurir.channels.linked_device.sandbox_switch import trust_sandbox
from kurir.foundation import crash_points

_WORKERS_PER_DEVICE = 16
"""Calls at once per device: the sending window, and room for look-ups beside it."""
_PR_SET_PDEATHSIG = 1
_ORPHANED = 1
_FAILED = 70


class Host:
    """Reads commands from a socket, has an engine carry them out, writes answers and news."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._writing = threading.Lock()
        self._openings = ThreadPoolExecutor(1, "openings")
        self._workers: dict[int, ThreadPoolExecutor] = {}

    def tell(self, news: News) -> None:
        """Sends news to the gateway; blocks while the gateway is behind."""
        self._write(frame(Notice(news)))

    def serve(self, engine: Engine) -> None:
        """Handles commands until the gateway closes the socket."""
        while (head := self._read(4)) is not None:
            body = self._read(body_length(head))
            if body is None:
                return
            request = decode_request(body)
            if isinstance(request.command, (Ping, Stored)):
                self._answer(engine, request.call, request.command)
            else:
                self._pool(request.command).submit(self._answer, engine, request.call, request.command)

    def _pool(self, command: Command) -> ThreadPoolExecutor:
        if isinstance(command, (Open, Close, Ping)):
            return self._openings
        if command.device not in self._workers:
            self._workers[command.device] = ThreadPoolExecutor(_WORKERS_PER_DEVICE, f"calls-{command.device}")
        return self._workers[command.device]

    def _answer(self, engine: Engine, call: int, command: Command) -> None:
        self._write(frame(Reply(call, engine.perform(command))))

    def _write(self, data: bytes) -> None:
        with self._writing:
            try:
                self._wire.sendall(data)
            except OSError:
                # the gateway is gone: nothing this process does has a purpose any more
                os._exit(_ORPHANED)

    def _read(self, count: int) -> bytes | None:
        parts: list[bytes] = []
        while count:
            part = self._wire.recv(min(count, 1 << 20))
            if not part:
                return None
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def run(wire: socket.socket) -> None:
    """Runs a host on the real engine until the gateway goes."""
    # here and not above: what loads the engine must come after the parent-death signal has been arranged
    from kurir.channels.linked_device.neonize_engine import NeonizeEngine  # noqa: PLC0415

    for name in ("neonize", "whatsmeow", "Whatsmeow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("neonize.utils.log").setLevel(logging.WARNING)
    noise_root = os.environ.get("KURIR_SANDBOX_NOISE_ROOT", "")
    if noise_root:
        trust_sandbox(bytes.fromhex(noise_root), "neonize-linux")
        crash_points.arm(os.environ.get("KURIR_CRASH_AT", ""))
    host = Host(wire)
    host.serve(NeonizeEngine(host.tell, int(os.environ["KURIR_MEDIA_LIMIT"])))


def main() -> None:
    """Entry point of the child process."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(_ORPHANED)  # the parent died before the kernel knew
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a stop is for the gateway: sends may finish, then it ends its hosts
    status = _FAILED
    try:
        run(socket.socket(fileno=int(sys.argv[1])))
        status = 0
    except Exception:
        logging.exception("the engine host cannot go on")
    finally:
        # the engine's threads would keep the process alive; sessions are transactional, so leaving is safe
        os._exit(status)


if __name__ == "__main__":
    main()
