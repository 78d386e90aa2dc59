"""A sandbox network for a whole test module: the child process, and its control API as tests speak it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from kurir.settings import Settings

START_TIMEOUT = 30.0


class SandboxNetwork:
    """A running sandbox. `info` is what it wrote to sandbox.json; stop it with `stop`."""

    def __init__(self, process: subprocess.Popen[bytes], info: dict[str, Any], log: Path) -> None:
        self.process = process
        self.info = info
        self.log = log
        self.url: str = info["url"]
        self.graph_url: str = info["graph_url"]
        self.businesses: list[dict[str, Any]] = info["businesses"]

    def settings(self, data_dir: Path, **values: Any) -> Settings:
        """Settings of a gateway that lives in this sandbox."""
        return Settings(
            data_dir=data_dir,
            sandbox=True,
            sandbox_proxy=self.info["proxy_url"],
            sandbox_ca=self.info["ca_file"],
            sandbox_noise_root=self.info["noise_root"],
            graph_url=self.graph_url,
            **values,
        )

    async def get(self, path: str) -> Any:
        """The answer to a GET; fails the test on an error status."""
        return await self._ask("GET", path, None)

    async def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer to a POST; fails the test on an error status."""
        return await self._ask("POST", path, body or {})

    async def delete(self, path: str) -> Any:
        """The answer to a DELETE; fails the test on an error status."""
        return await self._ask("DELETE", path, None)

    async def arrival(
        self, phone: str, matches: Callable[[dict[str, Any]], bool], timeout: float = 15.0
    ) -> dict[str, Any]:
        """The first message on `phone` that `matches`, waiting for it."""
        deadline = time.monotonic() + timeout
        after = 0
        seen: list[dict[str, Any]] = []
        while (left := deadline - time.monotonic()) > 0:
            news = await self.get(f"/people/{phone}/inbox?after={after}&wait={min(left, 5):.2f}")
            for record in news:
                if matches(record):
                    return record
                after = max(after, record["id"])
            seen += news
        raise AssertionError(f"nothing like that on {phone}: {seen}")

    async def media(self, sha256: str) -> bytes:
        """A file that reached a phone."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/media/{sha256}") as response:
            assert response.status == 200, await response.text()
            return await response.read()

    async def person(self, name: str) -> str:
        """A new person on WhatsApp; returns the phone number."""
        phone = f"62899{time.monotonic_ns() % 10**8:08d}"
        await self.post("/people", {"phone": phone, "name": name})
        return phone

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, json=body) as response,
        ):
            assert response.status < 300, f"{method} {path}: {response.status} {await response.text()}"
            return await response.json()

    def stop(self) -> None:
        """Ends the process and waits for it."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


def start_sandbox(folder: Path) -> SandboxNetwork:
    """A sandbox with its data in `folder`, ready to be used."""
    log = folder / "sandbox.log"
    ready = folder / "sandbox.json"
    ready.unlink(missing_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "kurir_sandbox", "--data", str(folder), "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    deadline = time.monotonic() + START_TIMEOUT
    while not ready.exists():
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            if time.monotonic() < deadline:
                continue
            process.kill()
            process.wait()
        raise AssertionError(f"the sandbox did not start: {log.read_text(errors='replace')[-2000:]}")
    return SandboxNetwork(process, json.loads(ready.read_text()), log)


async def eventually(condition: Callable[[], bool], timeout: float = 15.0, what: str = "") -> None:
    """Waits until `condition` holds; fails the test when it does not come true."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"it did not come true: {what or condition}"
        await asyncio.sleep(0.02)
