"""The demo as a user starts it, in its own folder and on free ports, for end-to-end tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

START_LIMIT = 60.0


class DemoProcess:
    """A running `kurir demo`. `file` is its demo.json, read anew at every use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder.with_suffix(".out")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> DemoProcess:
        """Starts it and waits for demo.json."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("KURIR_")}
        environment |= {"KURIR_DATA_DIR": str(self.folder), "KURIR_PORT": "0", "KURIR_SANDBOX_PORT": "0"}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kurir", "demo"], env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        wait_until(self._ready, START_LIMIT, self.explain)
        return self

    def _ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the demo ended with {self.process.returncode}:\n{self.explain()}")
        return (self.folder / "demo.json").exists()

    def stop(self) -> int:
        """Ctrl+C; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(40)

    @property
    def file(self) -> dict[str, Any]:
        return json.loads((self.folder / "demo.json").read_bytes())

    def explain(self) -> str:
        """What it printed and logged last."""
        texts = [self.output, self.folder / "gateway.log", self.folder / "sandbox.log"]
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in texts if path.exists()
        )


def wait_until(condition, limit: float, explain=lambda: "") -> None:
    """Waits for a condition of another process; fails with an explanation after `limit` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit} s: {explain()}"
        time.sleep(0.05)


class Phone:
    """A person's phone on the sandbox: what arrives there."""

    def __init__(self, session: aiohttp.ClientSession, sandbox_url: str, number: str) -> None:
        self._session = session
        self._url = f"{sandbox_url}/people/{number}"
        self.number = number
        self._after = 0

    async def catch_up(self) -> Phone:
        """Forgets what is there already."""
        seen = await self._inbox(0)
        self._after = seen[-1]["id"] if seen else 0
        return self

    async def next(self, timeout: float = 20.0) -> dict[str, Any]:
        """The next message that arrives."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if found := await self._inbox(2):
                self._after = found[0]["id"]
                return found[0]
        raise AssertionError(f"nothing arrived on the phone {self.number}")

    async def write(self, to: str, **content: Any) -> None:
        """The person writes to a number or group."""
        async with self._session.post(f"{self._url}/messages", json={"to": to, **content}) as answer:
            assert answer.status < 300, await answer.text()

    async def _inbox(self, wait: int) -> list[dict[str, Any]]:
        async with self._session.get(f"{self._url}/inbox?after={self._after}&wait={wait}") as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()
