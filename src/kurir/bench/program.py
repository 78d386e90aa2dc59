"""Child processes of a benchmark: started with their output in a file, ready when they print so, stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_START, _STOP, _POLL = 60.0, 40.0, 0.02
"""Seconds: for a program to get ready, to stop before it is killed, between two looks."""
_LAST = 1_500


class BenchError(Exception):
    """A benchmark cannot be run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Program:
    """A running program; `log` is its output."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def ready(self, look: Callable[[], T | None]) -> T:
        """What `look` finds as soon as it finds something. Raises BenchError when the program ends, or takes long."""
        deadline = asyncio.get_running_loop().time() + _START
        while (found := look()) is None:
            if self.process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                end = self.log.read_text(encoding="utf-8", errors="replace")[-_LAST:]
                raise BenchError(f"the {self.name} does not get ready; the end of its log:\n{end}")
            await asyncio.sleep(_POLL)
        return found

    async def port(self) -> int:
        """The port that it prints in its first line."""

        def look() -> int | None:
            line, end, _ = self.log.read_text(encoding="utf-8", errors="replace").partition("\n")
            return int(line) if end and line.isdigit() else None

        return await self.ready(look)


@asynccontextmanager
async def running(
    name: str, arguments: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None
) -> AsyncGenerator[Program]:
    """Starts a program in a session of its own and stops it at the end; its log is `<name>.log` in `folder`.

    It gets none of this process's KURIR_ settings. Its standard input ends with this process.
    """
    log = folder / f"{name.replace(' ', '-')}.log"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("KURIR_")}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *map(str, arguments),
            env={**inherited, **(environment or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl+C reaches only this process, which stops the others
        )
    try:
        yield Program(name, process, log)
    finally:
        await _stop(process)


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module in this interpreter."""
    return [sys.executable, "-m", module, *arguments]


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
