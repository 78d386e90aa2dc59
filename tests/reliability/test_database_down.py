"""F5 and F6: the database server crashes, its connections are cut, are all taken, or are slow, while callers are at work.

Callers get 503 in the wire's shape within their patience, never a false 200; nobody has to restart the gateway; and
afterwards the books balance. `KURIR_STORM_RESTARTS` and `KURIR_STORM_SECONDS` raise the dose.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psycopg
import pytest
from tests.postgres import Postgres
from tests.reliability.accountant import balance, quiet
from tests.reliability.load import GIVE_UP, Callers
from tests.reliability.site import Site, open_site
from tests.reliability.wire import Wire, wire_to
from tests.webhook_desk import LOOPBACK, Receiver, eventually

from kurir.foundation.data_folder import open_data_folder
from kurir.foundation.url_rules import Allowed
from kurir.webhooks import endpoints

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(7200)]
RESTARTS = int(os.environ.get("KURIR_STORM_RESTARTS", "3"))
SECONDS = float(os.environ.get("KURIR_STORM_SECONDS", "5"))


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server of the test's own: the others' must not be stopped."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()


async def test_a_server_that_crashes_again_and_again(tmp_path: Path, server: Postgres, receiver: Receiver):
    dice = random.Random(5)
    url = server.new_database()
    async with open_site(tmp_path, people=8, database_url=url, receiver=receiver.url("/")) as site:
        pid = site.process.pid if site.process else 0
        callers = Callers(site, "crash")
        calling = asyncio.create_task(callers.go(100_000, callers=6, pause=0.03))
        for _ in range(RESTARTS):
            await asyncio.sleep(dice.uniform(0.5, 2.0))
            await asyncio.to_thread(server.stop, signal.SIGQUIT)
            await asyncio.sleep(dice.uniform(0.0, 3.0))
            await asyncio.to_thread(server.start)
        await asyncio.sleep(1.0)
        callers.stop()
        await calling
        await quiet(site, 120)
        sheet = await balance(site, callers.log, receiver.letters)
        sys.stderr.write(f"\n{sheet.render()}\n")
        sheet.assert_zero(site.explain())
