"""Row: memory of the gateway at the start, idle, and under load."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from kurir.bench import processes
from kurir.bench.accept import linked_sends
from kurir.bench.deliver import CONNECTIONS, official_sends, open_gateway
from kurir.bench.figures import Figure, Goal, values_of
from kurir.bench.processes import Memory
from kurir.bench.run import Run
from kurir.bench.site import serving

_GOAL = Goal("value", floor=90.0, aim=70.0, less=True)
"""MiB resident."""
_IDLE, _LOOK = 10.0, 0.1
"""Seconds until a gateway counts as idle (less in a short run), and between two readings under load."""


async def memory(run: Run) -> list[Figure]:
    """At the start and idle, of a gateway without any device, then while it accepts and delivers."""
    start: list[Memory] = []
    idle: list[Memory] = []
    async with run.site(officials=1) as site:
        for _ in range(min(3, run.options.rounds)):
            async with serving(site) as gateway:
                start.append(processes.memory(gateway.pid))
                await asyncio.sleep(min(_IDLE, run.options.seconds * 3))
                idle.append(processes.memory(gateway.pid))
    loaded: list[Memory] = []
    async with run.stub() as stub, open_gateway(run, stub) as gateway:
        for requests in (linked_sends(gateway.site), official_sends(gateway.site)):
            load = asyncio.create_task(run.load.run(gateway.url, requests, CONNECTIONS, run.options.seconds))
            try:
                while not load.done():
                    loaded.append(processes.memory(gateway.pid))
                    await asyncio.sleep(_LOOK)
            finally:
                load.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await load
    highest = [max(loaded, key=lambda one: one.rss)]
    moments = {"at the start": start, "idle": idle, "under load, highest": highest}
    return [
        _figure(f"memory {kind}", f"gateway, {moment}", found, part, goal if moment == "idle" else None)
        for moment, found in moments.items()
        for kind, part, goal in _KINDS
    ]


_KINDS: tuple[tuple[str, Callable[[Memory], float], Goal | None], ...] = (
    ("RSS", lambda one: one.rss, _GOAL),
    ("PSS", lambda one: one.pss, None),
)


def _figure(row: str, what: str, found: list[Memory], part: Callable[[Memory], float], goal: Goal | None) -> Figure:
    return Figure(row=row, what=what, unit="MiB", ours=values_of("kurir", [part(one) for one in found]), goal=goal)
