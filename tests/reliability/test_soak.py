"""The long run: a steady load on both channels, a kill now and then, the books in balance, and nothing that grows.

`make soak` runs it for hours. Among the other tests it runs for seconds, which proves the run itself, not endurance:
growth of memory is asked for only from an hour on.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.harness.webhooks import Receiver
from tests.reliability.accountant import balance, quiet
from tests.reliability.load import Callers
from tests.reliability.measurements import report
from tests.reliability.site import Site, open_site

SECONDS = float(os.environ.get("KURIR_SOAK_SECONDS", "15"))
RATE = float(os.environ.get("KURIR_SOAK_RATE", "20"))
"""Messages per second, over both channels of two accounts."""
KILL_EVERY = float(os.environ.get("KURIR_SOAK_KILL_EVERY", "8"))
CALLERS = 8
READINGS = 60
HOUR = 3600.0
GROWTH = 1.05
"""The most that memory may grow in an hour, once the first has passed."""
FILES = 20
"""Open files may go up and down by this many: connections come and go."""
WAL = 64 * 2**20

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2 * SECONDS + 600)]


@dataclass(frozen=True)
class Reading:
    """The gateway at one moment: seconds since the beginning, which life, resident memory, open files, WAL."""

    at: float
    life: int
    kib: int
    files: int
    wal: int

    def __str__(self) -> str:
        size, wal = self.kib / 1024, self.wal / 2**20
        return f"{self.at:8.0f} s  life {self.life:<4} {size:7.1f} MiB {self.files:5} files {wal:6.1f} MiB WAL"


async def test_a_long_run_keeps_its_books_and_its_size(tmp_path: Path, database_url: str, receiver: Receiver):
    async with open_site(tmp_path, database_url=database_url, receiver=receiver.url("/")) as site:
        callers = Callers(site, "soak")
        readings: list[Reading] = []
        reading = asyncio.create_task(_read(site, readings))
        killing = asyncio.create_task(_kill(site))
        await callers.go(int(SECONDS * RATE), callers=CALLERS, pause=CALLERS / RATE)
        for task in (killing, reading):
            task.cancel()
        await asyncio.gather(killing, reading, return_exceptions=True)
        if site.process is None or site.process.poll() is not None:
            await asyncio.to_thread(site.start)  # the end came between a kill and the start after it
        await quiet(site, 120 + SECONDS / 10)
        sheet = await balance(site, callers.log, receiver.webhook_calls)
    kept = readings[:: max(1, len(readings) // 12)]
    figures = "\n".join([sheet.render(), *map(str, kept)])
    report(f"soak, {SECONDS:.0f} s at {RATE:.0f} messages/s, {'PostgreSQL' if database_url else 'SQLite'}", figures)
    sheet.assert_zero(site.explain())
    assert site.kills >= SECONDS // KILL_EVERY - 1
    assert readings
    assert max(one.wal for one in readings) <= WAL
    for _, of_life in itertools.groupby(readings, key=lambda one: one.life):
        _assert_level(list(of_life))


def _assert_level(readings: list[Reading]) -> None:
    """Within one life of the gateway neither memory nor open files creep up."""
    settled = [one for one in readings if one.at - readings[0].at > min(HOUR, SECONDS / 4)]
    if len(settled) < 4:
        return
    half = len(settled) // 2
    early, late = settled[:half], settled[half:]
    assert min(one.files for one in late) <= max(one.files for one in early) + FILES, settled
    hours = (late[-1].at - early[0].at) / HOUR
    if hours >= 1:
        grown = late[-1].kib / early[0].kib
        assert grown <= GROWTH**hours, f"{grown:.3f} in {hours:.1f} h"


async def _read(site: Site, readings: list[Reading]) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while True:
        if (reading := _reading(site, loop.time() - begun)) is not None:
            readings.append(reading)
        await asyncio.sleep(max(0.5, SECONDS / READINGS / 4))


def _reading(site: Site, at: float) -> Reading | None:
    """How the gateway is now; None when it has just been killed."""
    assert site.process is not None
    place = Path("/proc") / str(site.process.pid)
    wal = Path(f"{site.settings.sqlite_path}-wal")
    try:
        status = (place / "status").read_text()
        kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        files = len(list((place / "fd").iterdir()))
    except (OSError, StopIteration):
        return None
    return Reading(at, site.kills, kib, files, wal.stat().st_size if wal.exists() else 0)


async def _kill(site: Site) -> None:
    while True:
        await asyncio.sleep(KILL_EVERY)
        await asyncio.to_thread(site.kill)
        await asyncio.to_thread(site.start)
