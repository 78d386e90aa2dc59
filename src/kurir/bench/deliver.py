"""Row: accept and deliver over official numbers, Graph answering at once, against a naive FastAPI and pywa sender.

The peer sends within the request and stores nothing, so whatever is in flight when it ends is lost. Other programs can
be measured in its place by their addresses (`--rival`).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from kurir.bench import meta
from kurir.bench.figures import Figure, Goal, Sample, compared, in_pairs, side_of
from kurir.bench.load import Outcome, Requests
from kurir.bench.program import BenchError, running
from kurir.bench.run import Run, Stub, Target
from kurir.bench.site import Gateway, Site, serving

PATH = "/public/v1/send_meta_personal_message"
NUMBERS, PEOPLE = 20, 100
CONNECTIONS = 64
_REPETITIONS = 10
PEERS = Path(__file__).parents[3] / "benchmarks" / "peers"
PEER_PYTHON = Path(__file__).parents[3] / ".venv-bench" / "bin" / "python"
_ROW, _WHAT = "deliver c=64", "accept and deliver, 20 official numbers, Graph at 0 ms"
_MISSING = "FastAPI + pywa: not installed (`make bench` installs it)"
_GOAL = Goal("ratio", floor=10.0, aim=15.0)
_BODY = '{"number":"62812{n}","text":"Your order has left our shop {n}"}'
"""What a rival is sent unless the person says otherwise: the form of Evolution API's sendText."""


def official_sends(site: Site) -> Requests:
    """A text to each of the people in turn, from each number in turn."""
    return Requests(
        PATH,
        [
            msgspec.json.encode(
                {
                    "secret_key": site.api_key,
                    "licenses_key": official.key,
                    "reciptient": meta.person(n, i),
                    "platform": "whatsapp_business_api",
                    "messageType": "text",
                    "message": "Your order {n} has left our shop and will be with you tomorrow",
                }
            ).decode()
            for i in range(PEOPLE)
            for n, official in enumerate(site.officials)
        ],
    )


@asynccontextmanager
async def open_gateway(run: Run, stub: Stub, **changes: str) -> AsyncGenerator[Gateway]:
    """A gateway with official numbers, whose people have all written and may be answered."""
    async with (
        run.site(officials=NUMBERS) as site,
        serving(site, {"KURIR_GRAPH_URL": f"{stub.url}/v25.0", **changes}) as gateway,
    ):
        await open_windows(run, gateway)
        yield gateway


async def open_windows(run: Run, gateway: Gateway) -> None:
    """Lets every person write to every number. As Meta does, it repeats callbacks that were not answered with 200:
    repetitions of stored ones change nothing. Raises BenchError."""
    requests = meta.windows(gateway.site.officials, PEOPLE)
    outcome = await run.load.run(gateway.url, requests, 4, 0.0)
    for _ in range(_REPETITIONS):
        if not outcome.refused and not outcome.lost:
            return
        outcome = await run.load.run(gateway.url, requests, 4, 0.0)
    checked(outcome, "the callbacks that open the service windows")


async def deliver(run: Run) -> list[Figure]:
    """Against the peer, and against each rival."""
    figures: list[Figure] = []
    async with run.stub() as stub, open_gateway(run, stub) as gateway:
        requests, mine = official_sends(gateway.site), Target(gateway.url, gateway.pid)

        async def ours_once() -> Sample:
            before = (await stub.counts()).messages
            sample = await run.measured(mine, requests, CONNECTIONS)
            return delivered(sample, (await stub.counts()).messages - before)

        await run.warm(mine, requests, CONNECTIONS)
        async with contextlib.AsyncExitStack() as stack:
            others = [(name, url, rival_requests(run, name, url)) for name, url in run.options.rivals.items()]
            peer = await stack.enter_async_context(pywa_sender(run, stub))
            if peer is not None:
                others.insert(0, ("FastAPI + pywa, stores nothing", peer.url, _peer_requests()))
            for name, url, theirs in others:
                target = peer if peer is not None and url == peer.url else Target(url, 0)
                await run.warm(target, theirs, CONNECTIONS)
                samples, rival = await in_pairs(
                    run.options.rounds,
                    ours_once,
                    lambda t=target, r=theirs: run.measured(t, r, CONNECTIONS),
                )
                ours, peers = side_of("kurir", samples), side_of(name, rival)
                figures.append(compared(_ROW, _WHAT, ours, peers, _GOAL if target is peer else None))
            if peer is None:
                samples = [await ours_once() for _ in range(run.options.rounds)]
                alone = side_of("kurir", samples)
                figures.insert(0, Figure(row=_ROW, what=_WHAT, unit="/s", ours=alone, goal=_GOAL, missing=_MISSING))
    return figures


def delivered(sample: Sample, reached: int) -> Sample:
    """Counts only what has reached Graph: a send that takes long is answered before, as queued."""
    outcome = sample.outcome
    done = min(outcome.done, outcome.refused + reached)
    return msgspec.structs.replace(sample, outcome=msgspec.structs.replace(outcome, done=done))


@asynccontextmanager
async def pywa_sender(run: Run, stub: Stub) -> AsyncGenerator[Target | None]:
    """The naive sender, None where its environment is not installed."""
    if not PEER_PYTHON.exists() or not PEERS.exists():
        yield None
        return
    environment = {"GRAPH_STUB": stub.url}
    async with running("pywa sender", [PEER_PYTHON, PEERS / "pywa_sender.py"], run.folder, environment) as program:
        yield Target(f"http://127.0.0.1:{await program.port()}", program.pid)


def _peer_requests() -> Requests:
    return Requests(
        "/send", ['{"to":"62812{n}","text":"Your order {n} has left our shop and will be with you tomorrow"}']
    )


def rival_requests(run: Run, name: str, url: str) -> Requests:
    """What a rival is sent."""
    options = run.options
    path = urlsplit(url).path or "/"
    return Requests(path, [options.rival_bodies.get(name, _BODY)], headers=options.rival_headers.get(name, {}))


def checked(outcome: Outcome, what: str) -> None:
    """Raises BenchError when part of a preparation was not done."""
    if outcome.lost or outcome.refused:
        raise BenchError(f"{what}: {outcome.refused} refused, {outcome.lost} lost of {outcome.done}")
