"""Row: durable accept of a linked send, `method_send=async`, against a hello-world on the gateway's own server."""

from __future__ import annotations

import msgspec

from kurir.bench.figures import Figure, Goal, compared, in_pairs, side_of, values_of
from kurir.bench.load import Requests
from kurir.bench.run import Run, Target
from kurir.bench.site import Site, serving

PATH = "/public/v1/send_personal_message"
_GOALS = {64: Goal("ratio", floor=0.30, aim=0.40)}
_P50_AT_ONE = Goal("value", floor=1.0, less=True)
"""Milliseconds for one caller at a time."""


def linked_sends(site: Site) -> Requests:
    """Texts to ever new recipients over the linked device, which is not connected: they are stored and wait."""
    body = msgspec.json.encode(
        {
            "api_key": site.api_key,
            "number_id": site.device,
            "phone_no": "812{n}",
            "country_code": "62",
            "message": "Your order {n} has left our shop and will be with you tomorrow",
            "method_send": "async",
        }
    )
    return Requests(PATH, [body.decode()])


async def accept(run: Run) -> list[Figure]:
    """At 64 connections and at one."""
    figures: list[Figure] = []
    async with run.site(officials=0) as site, serving(site) as gateway, run.hello() as hello:
        requests, mine = linked_sends(site), Target(gateway.url, gateway.pid)
        for connections in (64, 1):
            for target in (mine, hello):
                await run.warm(target, requests, connections)
            ours, peer = await in_pairs(
                run.options.rounds,
                lambda c=connections: run.measured(mine, requests, c),
                lambda c=connections: run.measured(hello, requests, c),
            )
            us = side_of("kurir", ours)
            figures.append(
                compared(
                    f"accept c={connections}",
                    "durable accept of a linked send",
                    us,
                    side_of("hello-world", peer),
                    _GOALS.get(connections),
                )
            )
            if connections == 1:
                waits = values_of("kurir", [sample.outcome.p50_ms for sample in ours])
                figures.append(
                    Figure(row="accept c=1 p50", what="the same, one caller", unit="ms", ours=waits, goal=_P50_AT_ONE)
                )
    return figures
