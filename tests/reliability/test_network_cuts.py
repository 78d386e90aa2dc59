"""F8: the network goes away for a while, and comes and goes; both channels wait, and everything arrives once.

`KURIR_STORM_CUT` and `KURIR_STORM_FLAPPING` raise the dose (seconds).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.harness.webhooks import Receiver
from tests.reliability.accountant import balance, quiet
from tests.reliability.load import Callers
from tests.reliability.operator import Operator, operating
from tests.reliability.road import Road, road_to
from tests.reliability.site import Site, open_site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]
CUT = float(os.environ.get("KURIR_STORM_CUT", "4"))
FLAPPING = float(os.environ.get("KURIR_STORM_FLAPPING", "8"))


@asynccontextmanager
async def site_on_roads(folder: Path, receiver: Receiver) -> AsyncIterator[tuple[Site, Operator, list[Road]]]:
    """A site whose way to WhatsApp, for devices and for official numbers, can be cut."""
    async with open_site(folder, people=8, receiver=receiver.url("/")) as site:
        assert await asyncio.to_thread(site.stop) == 0
        proxy = urlsplit(site.environment["KURIR_SANDBOX_PROXY"]).port
        graph = urlsplit(site.settings.graph_url)
        assert proxy
        assert graph.port
        async with road_to(proxy) as web, road_to(graph.port) as cloud:
            site.environment |= {
                "KURIR_SANDBOX_PROXY": f"http://127.0.0.1:{web.port}",
                "KURIR_GRAPH_URL": f"http://127.0.0.1:{cloud.port}{graph.path}",
            }
            await asyncio.to_thread(site.start)
            async with operating(site) as operator:
                await operator.all_connected()
                yield site, operator, [web, cloud]


async def cut_off(roads: list[Road]) -> None:
    """From now on nobody gets through."""
    for road in roads:
        await road.close()


async def mend(roads: list[Road]) -> None:
    """The network is there again."""
    for road in roads:
        await road.open()


async def test_a_cut_and_a_flapping_network_only_delay(tmp_path: Path, receiver: Receiver):
    async with site_on_roads(tmp_path, receiver) as (site, operator, roads):
        callers = Callers(site, "cut")
        calling = asyncio.create_task(callers.go(100_000, callers=2, pause=0.1))
        await asyncio.sleep(1)
        await cut_off(roads)
        site.kills += 1  # what is written in the moment of the cut may be in doubt, as with a kill
        for shop in site.shops:
            await operator.device(shop, lambda one: one["state"] == "connecting")
        before = len(callers.log)
        await asyncio.sleep(CUT)
        during = callers.log[before:]
        assert during, "the gateway goes on accepting"
        # 408: an official number's answer waits a moment for the verdict, then says that the message is queued
        assert {call.code for call in during} <= {"200", "408"}
        await mend(roads)
        await operator.all_connected(60 + CUT)
        for _ in range(int(FLAPPING / 2)):
            await cut_off(roads)
            site.kills += 1
            await asyncio.sleep(1)
            await mend(roads)
            await asyncio.sleep(1)
        callers.stop()
        await calling
        await operator.all_connected(60 + FLAPPING)
        await quiet(site, 120 + len(callers.log) / 10)
        sheet = await balance(site, callers.log, receiver.webhook_calls)
        sys.stderr.write(f"\na cut of {CUT:g} s and {FLAPPING:g} s of flapping\n{sheet.render()}\n")
        sheet.assert_zero(site.explain())
        assert not [row for row in sheet.totals if row.strip() in {"failed", "expired"}], sheet.render()
