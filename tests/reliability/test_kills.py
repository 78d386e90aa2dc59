"""F1: the gateway is killed at random under load, on both channels; afterwards the books balance.

`KURIR_STORM_KILLS` and `KURIR_STORM_MESSAGES` raise the dose; with `KURIR_STORM_GATEWAYS` so many gateways share the
PostgreSQL and a kill takes one of them.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest
from tests.harness.webhooks import Receiver
from tests.reliability.accountant import balance, quiet
from tests.reliability.load import Callers
from tests.reliability.measurements import report
from tests.reliability.site import open_site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(7200)]
KILLS = int(os.environ.get("KURIR_STORM_KILLS", "6"))
MESSAGES = int(os.environ.get("KURIR_STORM_MESSAGES", "600"))
GATEWAYS = int(os.environ.get("KURIR_STORM_GATEWAYS", "1"))


async def test_without_faults_everything_arrives_once_and_in_order(
    tmp_path: Path, database_url: str, receiver: Receiver
):
    async with open_site(tmp_path, database_url=database_url, receiver=receiver.url("/")) as site:
        callers = Callers(site, "calm")
        await callers.go(200)
        await quiet(site, 60)
        sheet = await balance(site, callers.log, receiver.webhook_calls)
        sheet.assert_zero(site.explain())
        assert sheet.totals["answered 200"] == sheet.totals["arrived on phones"] == 200


async def test_kills_at_random_lose_nothing_and_send_nothing_twice(
    tmp_path: Path, database_url: str, receiver: Receiver
):
    rng = random.Random(7)
    async with open_site(tmp_path, database_url=database_url, receiver=receiver.url("/")) as site:
        gateways = [site, *(site.beside(f"gateway-{n}") for n in range(2, GATEWAYS + 1 if database_url else 0))]
        for other in site.others:
            await asyncio.to_thread(other.start)
        callers = Callers(site, "kill")
        # the load is spread so that every life of the gateway gets its share
        calling = asyncio.create_task(callers.go(MESSAGES, callers=8 + MESSAGES // 2000, pause=0.02))
        for _ in range(KILLS):
            await asyncio.sleep(rng.uniform(0.3, 2.5))
            victim = rng.choice(gateways)
            await asyncio.to_thread(victim.kill)
            await asyncio.to_thread(victim.start)
        await calling
        site.kills = sum(gateway.kills for gateway in gateways)
        await quiet(site, 120 + MESSAGES / 20)
        sheet = await balance(site, callers.log, receiver.webhook_calls, only_kills=True)
        where = "PostgreSQL" if database_url else "SQLite"
        report(f"the books after {KILLS} random kills and {MESSAGES} calls, {where}", sheet.render())
        sheet.assert_zero(site.explain())
        assert site.kills == KILLS
        assert sheet.totals["answered 200"] > 0.8 * MESSAGES
