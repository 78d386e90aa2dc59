"""Rows: how fast a backlog leaves: against the bare Graph client at 0 ms, against Little's law at 100 ms.

The messages are stored while their numbers are paused, then a new gateway starts on the data folder. The rate counts
from a tenth of them to nine tenths, so that neither the start nor the last stragglers are in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import msgspec

from kurir.bench import meta
from kurir.bench.deliver import CONNECTIONS, PATH, PEOPLE, checked, open_windows
from kurir.bench.figures import Figure, Goal, compared, values_of
from kurir.bench.load import Requests
from kurir.bench.program import BenchError, python, running
from kurir.bench.run import Run, Stub
from kurir.bench.site import Site, serving
from kurir.services.stored_services import over_data_folder

_AGAINST_CLIENT = Goal("ratio", floor=0.40, aim=0.65)
_AGAINST_LITTLE = Goal("ratio", floor=0.90, aim=0.95)
_NUMBERS, _WINDOW, _LATENCY = 8, 32, 0.1
_IN_FLIGHT = _NUMBERS * _WINDOW
_LOOK, _LONGEST = 0.02, 900.0


async def drain(run: Run) -> list[Figure]:
    """Both rates, in as many rounds as the others, three at most: each round stores its backlog first."""
    rounds, backlog = min(3, run.options.rounds), run.options.backlog
    ours: list[float] = []
    theirs: list[float] = []
    late: list[float] = []
    async with run.stub() as stub, run.stub(_LATENCY * 1e3) as slow:
        for _ in range(rounds):
            async with _queued(run, stub, backlog) as site:
                ours.append(await _rate(site, stub, backlog))
            theirs.append(await _bare(run, stub, backlog))
        for _ in range(rounds):
            async with _queued(run, slow, backlog) as site:
                late.append(await _rate(site, slow, backlog))
    law = _IN_FLIGHT / _LATENCY
    return [
        compared(
            "drain 0 ms",
            f"{backlog:,} queued messages of {_NUMBERS} numbers, Graph at 0 ms",
            values_of("kurir", ours),
            values_of(f"bare client, {_IN_FLIGHT} in flight", theirs),
            _AGAINST_CLIENT,
        ),
        compared(
            "drain 100 ms",
            "the same, Graph at 100 ms",
            values_of("kurir", late),
            values_of(f"Little's law, {_IN_FLIGHT} in flight", [law] * rounds),
            _AGAINST_LITTLE,
        ),
    ]


@asynccontextmanager
async def _queued(run: Run, stub: Stub, backlog: int) -> AsyncGenerator[Site]:
    """A site whose numbers have so many messages queued, and that no gateway serves."""
    async with run.site(officials=_NUMBERS) as site:
        async with serving(site, _environment(stub)) as gateway:
            await open_windows(run, gateway)
            async with over_data_folder(site.settings) as services:
                for official in site.officials:
                    await services.numbers.pause(site.account_id, official.key, "benchmark")
            outcome = await run.load.run(gateway.url, _sends(site, backlog), CONNECTIONS, 0.0)
            checked(outcome, "the backlog")
        async with over_data_folder(site.settings) as services:
            for official in site.officials:
                await services.numbers.resume(site.account_id, official.key)
        yield site


def _environment(stub: Stub) -> dict[str, str]:
    return {"KURIR_GRAPH_URL": f"{stub.url}/v25.0", "KURIR_CLOUD_WINDOW": str(_WINDOW)}


def _sends(site: Site, backlog: int) -> Requests:
    bodies = [
        msgspec.json.encode(
            {
                "secret_key": site.api_key,
                "licenses_key": site.officials[i % _NUMBERS].key,
                "reciptient": meta.person(i % _NUMBERS, i // _NUMBERS % PEOPLE),
                "message": f"Your order {i} has left our shop and will be with you tomorrow",
            }
        ).decode()
        for i in range(backlog)
    ]
    return Requests(PATH, bodies, once=True)


async def _rate(site: Site, stub: Stub, backlog: int) -> float:
    """Messages a second from a tenth to nine tenths of the backlog, as the Graph stub counts them."""
    loop = asyncio.get_running_loop()
    before = (await stub.counts()).messages
    first: tuple[float, int] | None = None
    async with serving(site, _environment(stub)):
        deadline = loop.time() + _LONGEST
        while loop.time() < deadline:
            at, reached = loop.time(), (await stub.counts()).messages - before
            if first is None and reached >= backlog * 0.1:
                first = (at, reached)
            if first is not None and reached >= backlog * 0.9:
                return (reached - first[1]) / (at - first[0]) if at > first[0] else float(reached)
            await asyncio.sleep(_LOOK)
    raise BenchError(f"drain: only {(await stub.counts()).messages - before} of {backlog} left in {_LONGEST:.0f} s")


async def _bare(run: Run, stub: Stub, backlog: int) -> float:
    command = python("kurir.bench.bare_client", stub.url, str(backlog), str(_IN_FLIGHT))
    async with running("bare client", command, run.folder) as program:
        async with asyncio.timeout(_LONGEST):
            failed = await program.process.wait()
        text = program.log.read_text(encoding="utf-8")
        if failed:
            raise BenchError(f"the bare client failed:\n{text[-1_000:]}")
        return backlog / float(text)
