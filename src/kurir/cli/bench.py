"""`kurir bench`: measures the gateway's hot paths on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

from kurir.cli.terminal import CommandError


def bench(
    *,
    rows: str = "",
    rounds: int = 5,
    seconds: float = 3.0,
    load: Literal["wrk", "python"] = "wrk",
    database: str = "",
    json: Path | None = None,
    backlog: int = 2_000,
    stored: int = 200_000,
    rival: list[str] | None = None,
    rival_body: list[str] | None = None,
    rival_header: list[str] | None = None,
) -> None:
    """Measure this gateway's hot paths on this machine, side by side with what they are held against.

    It needs wrk and a C compiler (`apt-get install wrk gcc`), and a machine that does nothing else. Everything is in
    temporary folders and on loopback; your data are not touched. docs/benchmarks.md says how to read the result.

    Args:
        rows: Only these rows, with commas between, such as accept,deliver; all when left out.
        rounds: Rounds of each pair; the median counts.
        seconds: How long one round takes.
        load: What sends the requests: wrk, or python where wrk cannot be had (slower, so its figures are lower).
        database: A PostgreSQL server's address (postgresql://…) to measure with instead of SQLite; databases named
            kurir_bench_… are made on it and dropped again.
        json: File to write the whole result to, every round included.
        backlog: Queued messages that the rows about draining send.
        stored: Rows that lie in the tables of the rows about growth.
        rival: NAME=URL of another program that sends over the same kind of Graph stub, to be measured in pairs too.
        rival_body: NAME=BODY that it is sent; {n} becomes eight digits that count up.
        rival_header: NAME=FIELD:VALUE of a header that it needs, such as a key.
    """
    import uvloop  # noqa: PLC0415

    from kurir.bench.bench import bench as run  # noqa: PLC0415 - keeps `kurir --help` and `serve` free of it
    from kurir.bench.program import BenchError  # noqa: PLC0415
    from kurir.bench.run import Options  # noqa: PLC0415

    if rounds < 1 or not 0 < seconds <= 600:
        raise CommandError("--rounds: expected 1 or more; --seconds: expected more than 0 and at most 600")
    headers: dict[str, dict[str, str]] = {}
    for name, pair in _pairs("--rival-header", rival_header, "NAME=FIELD:VALUE"):
        field, _, value = pair.partition(":")
        headers.setdefault(name, {})[field.strip()] = value.strip()
    options = Options(
        seconds=seconds,
        rounds=rounds,
        rows=tuple(row.strip() for row in rows.split(",") if row.strip()),
        load=load,
        database_url=database,
        rivals=dict(_pairs("--rival", rival, "NAME=URL")),
        rival_bodies=dict(_pairs("--rival-body", rival_body, "NAME=BODY")),
        rival_headers=headers,
        backlog=backlog,
        stored=stored,
    )
    try:
        uvloop.run(run(options, json))
    except BenchError as error:
        raise CommandError(str(error)) from error
    except asyncio.CancelledError:
        raise CommandError("stopped by a signal; nothing was measured to the end") from None


def _pairs(option: str, given: list[str] | None, form: str) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in given or ()]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise CommandError(f"{option}: expected {form}, got {name!r}")
    return [(name, value) for name, _, value in pairs]
