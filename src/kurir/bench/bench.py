"""Runs the rows that were asked for, one after the other, and reports."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from kurir.bench.accept import accept
from kurir.bench.broadcast import broadcast
from kurir.bench.budget import budget
from kurir.bench.callbacks import incoming, statuses, webhooks
from kurir.bench.deliver import deliver
from kurir.bench.drain import drain
from kurir.bench.figures import Cost, Figure
from kurir.bench.growth import claims, pages
from kurir.bench.linked import linked
from kurir.bench.load import loader
from kurir.bench.machine import Clockwork, facts
from kurir.bench.memory import memory
from kurir.bench.program import BenchError
from kurir.bench.report import Report, show
from kurir.bench.run import Options, Run
from kurir.bench.start import start
from kurir.kit.atomic_files import replace_whole
from kurir.store import postgres

ROWS: dict[str, Callable[[Run], Awaitable[Sequence[Figure | Cost]]]] = {
    "accept": accept,
    "deliver": deliver,
    "memory": memory,
    "status": statuses,
    "incoming": incoming,
    "webhooks": webhooks,
    "linked": linked,
    "broadcast": broadcast,
    "drain": drain,
    "start": start,
    "claim": claims,
    "pages": pages,
    "budget": budget,
}
"""Each row's name, as `--rows` takes it."""


async def bench(options: Options, json_file: Path | None) -> None:
    """Measures and prints. Raises BenchError when a row is unknown, at the end when one failed."""
    if unknown := [name for name in options.rows if name not in ROWS]:
        raise BenchError(f"--rows: there is no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    if options.database_url:
        try:
            postgres.address(options.database_url)
        except ValueError as error:
            raise BenchError(f"--database: {error}") from error
    load = loader(options.load)
    work = asyncio.current_task()
    assert work is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)  # as for Ctrl+C: programs are stopped
    notes, clockwork = Console(stderr=True, highlight=False), Clockwork()
    with tempfile.TemporaryDirectory(prefix="kurir-bench-") as name:
        folder = Path(name)
        machine = await facts(folder, load.name, "PostgreSQL" if options.database_url else "SQLite")
        run = Run(options, folder, load, lambda line: notes.print(line, style="dim"))
        found: list[Figure | Cost] = []
        failed: list[str] = []
        for row in options.rows or ROWS:
            run.report(f"measuring {row} …")
            try:
                found += await ROWS[row](run)
            except BenchError as error:  # what the others found is reported all the same
                failed.append(f"{row}: {error}")
                found.append(Figure(row=row, what="could not be measured", unit="", missing=str(error)))
    report = Report(
        machine=msgspec.structs.replace(machine, stolen=round(clockwork.share(), 3)),
        seconds=options.seconds,
        rounds=options.rounds,
        figures=[one for one in found if isinstance(one, Figure)],
        costs=[one for one in found if isinstance(one, Cost)],
    )
    if json_file is not None:
        replace_whole(json_file, msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    show(report, Console(highlight=False))
    if failed:
        raise BenchError("; ".join(failed))
