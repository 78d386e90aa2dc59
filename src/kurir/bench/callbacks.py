"""Rows: status callbacks and incoming messages of official numbers, signed, stored before they are answered; and the
webhooks that incoming messages cause."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import sqlalchemy as sa

from kurir.bench import meta
from kurir.bench.deliver import CONNECTIONS, checked, official_sends, open_gateway
from kurir.bench.figures import Figure, Goal, Sample, Side, side_of, values_of
from kurir.bench.load import Requests
from kurir.bench.processes import cpu
from kurir.bench.program import BenchError
from kurir.bench.run import Run, Stub, Target
from kurir.bench.site import Gateway, Official, Site
from kurir.data_folder import database_of
from kurir.numbers.tables import numbers
from kurir.outbox.tables import messages
from kurir.services.stored_services import over_data_folder

_STATUSES = Goal("value", floor=2_000.0, aim=5_000.0)
_WEBHOOKS = Goal("value", floor=500.0, aim=1_500.0)
_PROBE, _LEAST, _MOST = 100, 50, 60_000
"""Callbacks by whose rate a round is sized, and the bounds of a round."""
_PEOPLE = 1_000
_SETTLED, _LOOK = 300.0, 0.05
"""Seconds: for what was sent to be recorded, and between two looks."""


async def statuses(run: Run) -> list[Figure]:
    """`delivered` and `read` of messages that have been sent before, each once."""
    async with run.stub() as stub, open_gateway(run, stub) as gateway:
        half = run.options.seconds * run.options.rounds / 2 + 1
        await run.load.run(gateway.url, official_sends(gateway.site), CONNECTIONS, half)
        sent = await sent_messages(gateway.site)
        callbacks = [meta.status(*one, what) for what in ("delivered", "read") for one in sent]
        size = len(callbacks) // run.options.rounds
        rounds = [callbacks[i * size : (i + 1) * size] for i in range(run.options.rounds)]
        samples = [await _stored(run, gateway, some) for some in rounds if some]
    return [_figure("status c=64", "status callbacks stored, signed", side_of("kurir", samples), _STATUSES)]


async def incoming(run: Run) -> list[Figure]:
    """One text in each callback, from a thousand people to 20 numbers."""
    async with run.stub() as stub, open_gateway(run, stub) as gateway:
        texts = texts_of(gateway.site)
        size = await _round_size(run, gateway, texts)
        samples = [await _stored(run, gateway, list(itertools.islice(texts, size))) for _ in range(run.options.rounds)]
    what = "incoming messages stored, official numbers, signed"
    return [_figure("incoming official c=64", what, side_of("kurir", samples), None)]


async def webhooks(run: Run) -> list[Figure]:
    """From the first callback until the receiver has every event: one endpoint, on loopback."""
    async with run.stub() as stub, open_gateway(run, stub) as gateway, listening(gateway.site, stub):
        texts = texts_of(gateway.site)
        size = await _round_size(run, gateway, texts)
        await until(stub, lambda events: events >= _PROBE, "webhooks")
        rates: list[float] = []
        spent: list[Sample] = []
        for _ in range(run.options.rounds):
            before, began, used = (await stub.counts()).events, asyncio.get_running_loop().time(), cpu(gateway.pid)
            sample = await _stored(run, gateway, list(itertools.islice(texts, size)))
            await until(stub, lambda events, b=before: events >= b + size, "webhooks")
            rates.append(size / (asyncio.get_running_loop().time() - began))
            spent.append(Sample.of(sample.outcome, cpu(gateway.pid).since(used)))
    timed = side_of("kurir", spent)
    ours = Side(
        "kurir",
        values_of("kurir", rates).value,
        rates,
        loop_us=timed.loop_us,
        threads_us=timed.threads_us,
        children_us=timed.children_us,
    )
    what = "incoming messages until the receiver has their webhooks, one endpoint"
    return [_figure("webhooks", what, ours, _WEBHOOKS)]


@asynccontextmanager
async def listening(site: Site, stub: Stub) -> AsyncGenerator[None]:
    """Adds an endpoint of the account for incoming messages; the running gateway follows within seconds."""
    async with over_data_folder(site.settings) as services:
        await services.webhooks.add(site.account_id, f"{stub.url}/hook")
    yield


async def until(stub: Stub, enough: Callable[[int], bool], what: str) -> None:
    """Waits until the stub has received enough events. Raises BenchError when that takes too long."""
    deadline = asyncio.get_running_loop().time() + _SETTLED
    while not enough((await stub.counts()).events):
        if asyncio.get_running_loop().time() > deadline:
            raise BenchError(f"{what}: not all arrived within {_SETTLED:.0f} s")
        await asyncio.sleep(_LOOK)


async def _round_size(run: Run, gateway: Gateway, texts: Iterator[tuple[str, str]]) -> int:
    """How many callbacks a round takes to last as long as the others."""
    outcome = await run.load.run(gateway.url, meta.once(list(itertools.islice(texts, _PROBE))), CONNECTIONS, 0.0)
    checked(outcome, "callbacks")
    return int(min(_MOST, max(_LEAST, outcome.per_second * run.options.seconds)))


async def _stored(run: Run, gateway: Gateway, callbacks: Sequence[tuple[str, str]]) -> Sample:
    requests: Requests = meta.once(callbacks)
    sample = await run.measured(Target(gateway.url, gateway.pid), requests, CONNECTIONS)
    checked(sample.outcome, "callbacks")
    return sample


def texts_of(site: Site) -> Iterator[tuple[str, str]]:
    """Endless callbacks, each with another message."""
    for i in itertools.count():
        for n, official in enumerate(site.officials):
            yield meta.texts(official, [meta.person(n, i % _PEOPLE)], f"I{i:06d}")


async def sent_messages(site: Site) -> list[tuple[Official, str, str, int]]:
    """Every message that has been sent: its number, Meta's id, recipient and our id."""
    of_phone_number_id = {official.phone_number_id: official for official in site.officials}
    m = messages.c
    found = sa.select(numbers.c.phone_number_id, m.remote_id, m.recipient, m.id).join_from(
        messages, numbers, m.number_id == numbers.c.id
    )
    database = database_of(site.settings)
    try:
        with database.snapshot() as connection:
            rows = connection.execute(found.where(m.state == "sent").order_by(m.id)).all()
    finally:
        database.engine.dispose()
    if not rows:
        raise BenchError("status: no message was sent")
    return [(of_phone_number_id[row[0]], row[1], row[2], row[3]) for row in rows]


def _figure(row: str, what: str, ours: Side, goal: Goal | None) -> Figure:
    return Figure(row=row, what=what, unit="/s", ours=ours, goal=goal)
