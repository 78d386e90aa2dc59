"""The facts of a run: machine, programs, commit and date. Figures of one machine are comparable within one run only."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from kurir import __version__
from kurir.bench.processes import stolen

_FLUSHES, _SECONDS = 200, 2.0


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What a run's figures depend on. `flush_ms`: median and 99th percentile of a 4 KiB append with fsync in the folder
    of the databases; `load`: of the last minute, before the run; `stolen`: share of the machine's processor time that
    its host took during the run."""

    date: str
    commit: str
    version: str
    cores: int
    processor: str
    memory_gib: float
    system: str
    python: str
    folder: str
    file_system: str
    flush_ms: tuple[float, float]
    load: float
    load_program: str
    database: str
    stolen: float = 0.0


class Clockwork:
    """Measures what was stolen between its creation and `share`."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._stolen = stolen()

    def share(self) -> float:
        """The share of all processor time so far."""
        return (stolen() - self._stolen) / max(1e-9, (time.monotonic() - self._began) * (os.cpu_count() or 1))


async def facts(folder: Path, load_program: str, database: str) -> Machine:
    """The facts now; `folder` is where the databases will be."""
    return Machine(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=await _commit(),
        version=__version__,
        cores=os.cpu_count() or 1,
        processor=_processor(),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        folder=str(folder),
        file_system=_file_system(folder),
        flush_ms=await asyncio.to_thread(_flush, folder),
        load=round(os.getloadavg()[0], 1),
        load_program=load_program,
        database=database,
    )


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.machine()
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _file_system(folder: Path) -> str:
    """The type of the file system that holds the folder: the longest mount point above it."""
    best, kind = "", "unknown"
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return kind
    for line in lines:
        _, point, its, *_ = line.split()
        if Path(point) in (folder, *folder.parents) and len(point) >= len(best):
            best, kind = point, its
    return kind


def _flush(folder: Path) -> tuple[float, float]:
    waited: list[float] = []
    until = time.perf_counter() + _SECONDS
    file = folder / "flushes"
    with file.open("wb", buffering=0) as out:
        while len(waited) < _FLUSHES and time.perf_counter() < until:
            began = time.perf_counter()
            out.write(bytes(4096))
            os.fsync(out.fileno())
            waited.append((time.perf_counter() - began) * 1e3)
    file.unlink()
    waited.sort()
    return round(waited[len(waited) // 2], 3), round(waited[int(len(waited) * 0.99)], 3)


async def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    process = await asyncio.create_subprocess_exec(
        git, "describe", "--always", "--dirty", "--exclude=*",
        cwd=Path(__file__).parent, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    output, _ = await process.communicate()
    return output.decode().strip() or "unknown"
