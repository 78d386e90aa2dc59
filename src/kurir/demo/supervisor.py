"""Keeps a child process running: restarts it within two seconds when it ends, and stops it in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from kurir.kit.backoff import Backoff
from kurir.kit.tasks import Tasks

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 1.5
_STEADY = 10.0


class Supervised:
    """One supervised program.

    `started` is called with its process id after each start, `died` with a sentence when it ended by itself.
    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        environment: Mapping[str, str],
        log_file: Path,
        *,
        started: Callable[[int], None],
        died: Callable[[str], None],
    ) -> None:
        self.name = name
        self.pid = 0
        self.deaths = 0
        self._arguments = arguments
        self._environment = dict(environment)
        self._log_file = log_file
        self._started = started
        self._died = died
        self._process: asyncio.subprocess.Process | None = None
        self._tasks = Tasks()
        self._stopping = False

    async def start(self) -> None:
        """Starts the program and restarts it whenever it ends."""
        await self._spawn()
        self._tasks.keep("supervisor", self._keep, key=self.name)

    async def stop(self, timeout: float) -> None:
        """Sends SIGTERM, then SIGKILL after `timeout` seconds."""
        self._stopping = True
        await self._tasks.close()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(timeout):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _spawn(self) -> None:
        with self._log_file.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *self._arguments,
                env={**os.environ, **self._environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl+C reaches only the supervisor, which stops them in order
            )
        self.pid = self._process.pid
        self._started(self.pid)

    async def _keep(self) -> None:
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        loop = asyncio.get_running_loop()
        while not self._stopping:
            assert self._process is not None
            since = loop.time()
            code = await self._process.wait()
            if loop.time() - since > _STEADY:
                backoff.reset()
            self.deaths += 1
            how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
            self._died(f"The {self.name} {how}; starting it again.")
            await asyncio.sleep(backoff.after_failure())
            await self._spawn()


def last_lines(log_file: Path, count: int = 15) -> str:
    """The end of a log file, for an error message."""
    with contextlib.suppress(OSError):
        return "\n".join(log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])
    return ""
