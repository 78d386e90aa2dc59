"""What one message takes on each path: transactions, statements, reads and flushes, alone and among 64 (SQLite).

A gateway of its own is counted, because counting takes time. Each figure is the average of a number of messages, until
nothing more is asked for; periodic jobs in between are in it, so the counts are not quite whole numbers.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from kurir.bench import meta
from kurir.bench.accept import linked_sends
from kurir.bench.callbacks import listening, sent_messages, texts_of, until
from kurir.bench.deliver import NUMBERS, checked, official_sends, open_windows
from kurir.bench.figures import Cost
from kurir.bench.load import Requests
from kurir.bench.program import BenchError, Program, python
from kurir.bench.run import Run, Stub
from kurir.bench.site import Gateway, Site, serving
from kurir.store.statement_counts import Counted

_QUIET, _LOOKS = 0.4, 300
"""Seconds without a statement after which the work of all messages is over, and how often that is looked for."""
_MESSAGES = {1: 20, 64: 640}
"""How many messages are averaged, by connections."""


class _Answer(msgspec.Struct):
    asked: str
    counted: Counted


@dataclass(slots=True)
class _Counts:
    """Asks a counted gateway."""

    program: Program
    answers: Path
    flushed: Path
    asked: int = 0

    async def now(self) -> dict[str, int]:
        """The counts so far, flushes included."""
        self.asked += 1
        stdin = self.program.process.stdin
        assert stdin is not None
        stdin.write(f"{self.asked}\n".encode())
        await stdin.drain()
        counted = await self.program.ready(self._look)
        flushes = int.from_bytes(self.flushed.read_bytes(), "little")
        return {**asdict(counted), "flushes": flushes}

    def _look(self) -> Counted | None:
        try:
            answer = msgspec.json.decode(self.answers.read_bytes(), type=_Answer)
        except FileNotFoundError:
            return None
        return answer.counted if answer.asked == str(self.asked) else None

    async def quiet(self) -> dict[str, int]:
        """The counts as soon as they stay as they are."""
        seen = await self.now()
        for _ in range(_LOOKS):
            await asyncio.sleep(_QUIET)
            now = await self.now()
            if now == seen:
                return now
            seen = now
        raise BenchError(f"budget: the gateway is not quiet within {_LOOKS * _QUIET:.0f} s")


async def budget(run: Run) -> list[Cost]:
    """Of five paths; nothing on PostgreSQL, whose statements are not counted."""
    if run.options.database_url:
        run.report("budget: counted on SQLite only")
        return []
    costs: list[Cost] = []
    async with run.stub() as stub, run.site(officials=NUMBERS) as site, _counted(run, site, stub) as (gateway, counts):

        async def measure(path: str, requests: Requests, connections: int, webhooks: int = 0) -> None:
            before, expected = await counts.quiet(), (await stub.counts()).events + webhooks
            checked(await run.load.run(gateway.url, requests, connections, 0.0), path)
            await until(stub, lambda events: events >= expected, "budget")
            after = await counts.quiet()
            each = {name: (after[name] - before[name]) / len(requests.bodies) for name in after}
            costs.append(Cost(path=path, connections=connections, messages=len(requests.bodies), **each))

        for connections, count in _MESSAGES.items():
            await measure("linked send, accepted", _some(linked_sends(site), count), connections)
        await open_windows(run, gateway)
        for connections, count in _MESSAGES.items():
            await measure("official send, recorded", _some(official_sends(site), count), connections)
        sent = await sent_messages(site)
        statuses = iter([meta.status(*one, "delivered") for one in sent])
        texts = texts_of(site)
        for connections, count in _MESSAGES.items():
            await measure("status callback", meta.once(list(itertools.islice(statuses, count))), connections)
        for connections, count in _MESSAGES.items():
            await measure("incoming message", meta.once(list(itertools.islice(texts, count))), connections)
        async with listening(site, stub):
            for connections, count in _MESSAGES.items():
                some = meta.once(list(itertools.islice(texts, count)))
                await measure("incoming, with webhook", some, connections, webhooks=count)
    return sorted(costs, key=lambda cost: cost.connections)


def _some(requests: Requests, count: int) -> Requests:
    bodies: Sequence[str] = list(itertools.islice(itertools.cycle(requests.bodies), count))
    return msgspec.structs.replace(requests, bodies=bodies, once=True)


@asynccontextmanager
async def _counted(run: Run, site: Site, stub: Stub) -> AsyncGenerator[tuple[Gateway, _Counts]]:
    answers, flushed = run.folder / "counts.json", run.folder / "flushes"
    library = await run.compiled("flush_count", "-shared", "-fPIC", "-ldl")
    changes = {
        "KURIR_GRAPH_URL": f"{stub.url}/v25.0",
        "LD_PRELOAD": str(library),
        "FLUSH_COUNT": str(flushed),
    }
    async with serving(site, changes, python("kurir.bench.counted_gateway", str(answers))) as gateway:
        yield gateway, _Counts(gateway.program, answers, flushed)
