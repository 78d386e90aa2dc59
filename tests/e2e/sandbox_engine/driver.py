"""The test's side of the child process: calls with answers, and events to wait for."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

CHILD = Path(__file__).with_name("child.py")


class Network(Protocol):
    """What an engine must know of the wire."""

    ca_file: Path
    proxy_url: str
    noise_root: bytes


class EngineError(Exception):
    """What the engine raised."""


class Engine:
    """One real engine. `start`, then `call`s and `event`s; `kill` at the end."""

    def __init__(self, network: Network, database: Path) -> None:
        self._network, self._database = network, database
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._news = asyncio.Condition()
        self.events: list[tuple[str, Any]] = []
        self.log = database.with_suffix(".log")

    async def start(self) -> Engine:
        ours, theirs = socket.socketpair()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._database.parent),
            "SSL_CERT_FILE": str(self._network.ca_file),
            "HTTPS_PROXY": self._network.proxy_url,
            "NEONIZE_BOT_TAG": "off",
        }
        with theirs, self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(CHILD),
                str(theirs.fileno()),
                str(self._database),
                self._network.noise_root.hex(),
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=1 << 26)
        self._reading = asyncio.create_task(self._read(reader))
        await self.call("connect")
        return self

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        self._writer.close()

    async def call(self, call: str, within: float = 30.0, **arguments: Any) -> Any:
        """Raises EngineError with what the engine raised."""
        number = next(self._ids)
        self._answers[number] = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps({"id": number, "call": call, **arguments}).encode() + b"\n")
        return await asyncio.wait_for(self._answers[number], within)

    async def event(
        self, name: str, matches: Callable[[Any], bool] = lambda _: True, within: float = 20.0, after: int = 0
    ) -> Any:
        """The first event `name` that `matches`, seen already (from index `after`) or yet to come."""

        def find() -> Any:
            return next((d for n, d in self.events[after:] if n == name and matches(d)), None)

        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(lambda: find() is not None), within)
            except TimeoutError:
                seen = [n for n, _ in self.events[after:]]
                raise AssertionError(
                    f"no {name} within {within} s; seen: {seen}; log: {self.log_text()[-2000:]}"
                ) from None
        return find()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            reported = json.loads(line)
            if "event" in reported:
                async with self._news:
                    data = reported["data"] | {"raw": reported["raw"]} if "raw" in reported else reported["data"]
                    self.events.append((reported["event"], data))
                    self._news.notify_all()
                continue
            answer = self._answers.pop(reported["id"])
            if answer.done():
                continue
            if "error" in reported:
                answer.set_exception(EngineError(reported["error"]))
            else:
                answer.set_result(reported["result"])

    def log_text(self) -> str:
        """The engine's own log output so far."""
        return self.log.read_text(errors="replace")
