"""Row: from the start of `kurir serve` until it answers."""

from __future__ import annotations

import asyncio

from kurir.bench.figures import Figure, values_of
from kurir.bench.run import Run
from kurir.bench.site import serving


async def start(run: Run) -> list[Figure]:
    """On a data folder that exists, with 20 official numbers and no device."""
    waited: list[float] = []
    loop = asyncio.get_running_loop()
    async with run.site() as site:
        for _ in range(run.options.rounds):
            began = loop.time()
            async with serving(site):
                waited.append(loop.time() - began)
    what = "from the start until it answers, 20 official numbers, no device"
    return [Figure(row="start", what=what, unit="s", ours=values_of("kurir", waited))]
