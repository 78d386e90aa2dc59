"""What a process costs: processor time by thread, and memory, from /proc (Linux)."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds of processor time: of the thread with the event loop, of the process's other threads, of its children."""

    loop: float = 0.0
    threads: float = 0.0
    children: float = 0.0

    def since(self, before: Cpu) -> Cpu:
        """What was spent between the two readings."""
        return Cpu(self.loop - before.loop, self.threads - before.threads, self.children - before.children)

    def each(self, count: int) -> Cpu:
        """Per one of `count`, in microseconds."""
        scale = 1e6 / count if count else 0.0
        return Cpu(self.loop * scale, self.threads * scale, self.children * scale)


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident and proportional memory in MiB; `pss` shares what several processes use among them."""

    rss: float
    pss: float


def cpu(pid: int) -> Cpu:
    """What a process and its descendants have spent; the event loop runs in the process's first thread."""
    loop = _spent(Path(f"/proc/{pid}/task/{pid}/stat"))
    return Cpu(
        loop,
        max(0.0, _spent(Path(f"/proc/{pid}/stat")) - loop),
        sum(_spent(Path(f"/proc/{child}/stat")) for child in descendants(pid)),
    )


def memory(pid: int) -> Memory:
    """The memory of one process, without its children."""
    text = _text(Path(f"/proc/{pid}/smaps_rollup"))
    found = {name: int(kib) / 1024 for name, kib in re.findall(r"^(Rss|Pss):\s+(\d+) kB", text, re.MULTILINE)}
    return Memory(found.get("Rss", 0.0), found.get("Pss", 0.0))


def descendants(pid: int) -> Iterator[int]:
    """The ids of all child processes, their children included."""
    for thread in _names(Path(f"/proc/{pid}/task")):
        for child in _text(Path(f"/proc/{pid}/task/{thread}/children")).split():
            yield int(child)
            yield from descendants(int(child))


def command(pid: int) -> str:
    """The command line of a process."""
    return _text(Path(f"/proc/{pid}/cmdline")).replace("\0", " ").strip()


def stolen() -> float:
    """Processor seconds that the host has taken from this machine since its start."""
    fields = _text(Path("/proc/stat")).partition("\n")[0].split()
    return int(fields[8]) / _TICK if len(fields) > 8 else 0.0


def _spent(stat: Path) -> float:
    fields = _text(stat).rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK if len(fields) > 12 else 0.0


def _names(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return [entry.name for entry in folder.iterdir()]
    return []


def _text(file: Path) -> str:
    with contextlib.suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace")
    return ""
