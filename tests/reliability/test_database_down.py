"""F5 and F6: the database server crashes; its connections are cut, all taken, hang, or are slow; callers are at work.

Callers get an answer within their patience, 503 where nothing could be stored, never a false 200; nobody restarts the
gateway; and afterwards the books balance. `KURIR_STORM_RESTARTS` and `KURIR_STORM_SECONDS` raise the dose.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import psycopg
import pytest
from sqlalchemy.engine import make_url
from tests.harness.webhooks import LOOPBACK, Receiver, eventually
from tests.postgres import Postgres
from tests.reliability.accountant import balance, quiet
from tests.reliability.callers_view import ask, command, everything_is_refused, is_ready
from tests.reliability.load import Callers
from tests.reliability.site import Site, open_site
from tests.reliability.wire import Wire, wire_to

from kurir.data_folder import open_data_folder
from kurir.kit.url_rules import Allowed
from kurir.webhooks import endpoints

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(7200)]
RESTARTS = int(os.environ.get("KURIR_STORM_RESTARTS", "3"))
_POOL = 5
_CALLERS = 4
SECONDS = float(os.environ.get("KURIR_STORM_SECONDS", "2"))


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server of the test's own: the others' must not be stopped."""
    server = Postgres(max_connections=60)
    try:
        server.start()
        yield server
    finally:
        server.remove()


async def test_a_server_that_crashes_again_and_again(tmp_path: Path, server: Postgres, receiver: Receiver):
    rng = random.Random(5)
    url = server.new_database()
    async with open_site(tmp_path, people=8, database_url=url, receiver=receiver.url("/")) as site:
        await asyncio.to_thread(_hear_incoming, site, receiver.url("/in"))
        async with calling(site, "crash", receiver):
            for restart in range(RESTARTS):
                await asyncio.sleep(rng.uniform(0.5, 2.0))
                await asyncio.to_thread(server.stop, signal.SIGQUIT)
                site.kills += 1  # as many may have been in flight as when the gateway is killed
                if restart == 0:
                    await everything_is_refused(site)
                    refused = await asyncio.to_thread(command, site, "account", "list")
                    assert refused.returncode == 1
                    assert "Traceback" not in refused.stderr
                    assert "PostgreSQL" in refused.stderr
                person, text = site.people[restart % len(site.people)], f"Masih ada stok? ({restart})"
                written = {"to": site.shops[0].device_phone, "text": text}
                await site.sandbox.post(f"/people/{person}/messages", written)
                await asyncio.sleep(rng.uniform(0.0, 3.0))
                await asyncio.to_thread(server.start)
                await eventually(lambda: is_ready(site), timeout=20)
        wanted = [(f"Masih ada stok? ({restart})", 1) for restart in range(RESTARTS)]
        await eventually(lambda: asyncio.to_thread(_incoming, site), sorted(wanted), timeout=30)
        async with asyncio.timeout(30):
            while len(_heard(receiver)) < RESTARTS:
                await asyncio.sleep(0.1)
        assert sorted(_heard(receiver)) == sorted(text for text, _ in wanted)


async def test_a_bad_road_to_the_server(tmp_path: Path, server: Postgres, receiver: Receiver):
    direct = server.new_database()
    with wire_to(server.port) as wire:
        through = make_url(direct).set(port=wire.port).render_as_string()
        async with open_site(tmp_path, people=8, database_url=through, receiver=receiver.url("/")) as site:
            site.settings = msgspec.structs.replace(site.settings, database_url=direct)
            before = wire.open()
            async with calling(site, "road", receiver) as callers:
                await _cuts(site, wire, server, direct)
                await _all_taken(site, callers, wire, server, direct)
                await _hangs(site, callers, wire)
                await _slow(site, callers, wire)
                await _locked(site, callers, direct)
            # each trouble met hundreds of queries; a pool may have grown to its size, and what it opened beyond goes
            async with asyncio.timeout(30):
                while wire.open() > before + _POOL:
                    await asyncio.sleep(0.1)


@asynccontextmanager
async def calling(site: Site, run: str, receiver: Receiver) -> AsyncIterator[Callers]:
    """Callers at work meanwhile; afterwards all got an answer in time and the books balance."""
    callers = Callers(site, run)
    work = asyncio.create_task(callers.go(1_000_000, callers=_CALLERS, pause=0.05))
    try:
        yield callers
        await asyncio.sleep(1.0)
    finally:
        callers.stop()
        await work
    await quiet(site, 120)
    webhook_calls = [webhook_call for webhook_call in receiver.webhook_calls if webhook_call.path != "/in"]
    sheet = await balance(site, callers.log, webhook_calls)
    slowest = max(call.seconds for call in callers.log)
    sys.stderr.write(f"\n{sheet.render()}\nslowest answer {slowest:.2f} s\n")
    sheet.assert_zero(site.explain())
    assert sheet.totals["without a reply"] == 0, "every call has an answer before its caller gives up"
    assert sheet.totals["answered 200"] > 0
    assert any(call.code == "503" for call in callers.log)


# -- what can be wrong with the road -----------------------------------------------------------------------------------


async def _cuts(site: Site, wire: Wire, server: Postgres, url: str) -> None:
    """Connections break under way, at the wire and at the server, again and again."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        wire.cut()
        await asyncio.sleep(0.3)
        await asyncio.to_thread(
            server.run, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{_name(url)}'"
        )
        await asyncio.sleep(0.3)
        site.kills += 1
    await _recovers(site)


async def _all_taken(site: Site, callers: Callers, wire: Wire, server: Postgres, url: str) -> None:
    """Somebody else has every connection that the server gives."""
    with contextlib.ExitStack() as taken:
        wire.refusing = True
        wire.cut()
        site.kills += 1
        await asyncio.to_thread(_take_all, taken, server.url("postgres"))
        wire.refusing = False
        await _is_refused(site, callers)
        await asyncio.sleep(SECONDS)
        await _is_refused(site, callers)
    await _recovers(site)


async def _hangs(site: Site, callers: Callers, wire: Wire) -> None:
    """The server takes what is said to it and never answers."""
    wire.silent = True
    site.kills += 1
    await _is_refused(site, callers)
    await asyncio.sleep(SECONDS)
    await _is_refused(site, callers)
    wire.silent = False
    await _recovers(site)


async def _slow(site: Site, callers: Callers, wire: Wire) -> None:
    """Every answer of the server takes two seconds longer."""
    wire.delay = 2.0
    site.kills += 1
    await asyncio.sleep(SECONDS)
    await _is_refused(site, callers)
    wire.delay = 0.0
    await _recovers(site)


async def _locked(site: Site, callers: Callers, url: str) -> None:
    """Another session holds the table of messages."""
    connection = await asyncio.to_thread(psycopg.connect, url)
    with connection:
        await asyncio.to_thread(connection.execute, "LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
        await _is_refused(site, callers)
        connection.rollback()
    await _recovers(site)


async def _is_refused(site: Site, callers: Callers) -> None:
    """All callers are refused now, in time, and the process still counts as alive."""
    # one that was asked before may have been accepted, and is answered once its verdict has been waited for
    since = time.monotonic()

    def asked() -> list[str]:
        return [call.code for call in callers.log if call.asked_at >= since][_CALLERS:]

    async with asyncio.timeout(30):
        while len(asked()) < _CALLERS:
            await asyncio.sleep(0.05)
    assert set(asked()) == {"503"}
    alive = await ask(site, "GET", "/healthz")
    assert alive.status == 200


async def _recovers(site: Site) -> None:
    """Nobody does anything, and it takes messages again."""
    await eventually(lambda: is_ready(site), timeout=20)


def _take_all(taken: contextlib.ExitStack, url: str) -> None:
    """Takes connections until there is none for a while: those that were cut are given back a moment later."""
    last = time.monotonic()
    while time.monotonic() < last + 0.5:
        try:
            taken.enter_context(contextlib.closing(psycopg.connect(url)))
            last = time.monotonic()
        except psycopg.OperationalError:
            time.sleep(0.05)


def _name(url: str) -> str:
    return make_url(url).database or ""


# -- what came in meanwhile --------------------------------------------------------------------------------------------


def _hear_incoming(site: Site, url: str) -> None:
    """The first shop's server wants to hear of what people write."""
    database, sealing = open_data_folder(site.settings)
    with database.transaction() as connection:
        shop = site.shops[0].account_id
        endpoints.add(connection, sealing, shop, url, allowed=Allowed.parse([LOOPBACK]), now=time.time())
    database.engine.dispose()


def _heard(receiver: Receiver) -> list[str]:
    """What customers wrote, as the shop's server heard it; it hears of the shop's own messages too."""
    return [webhook_call.text for webhook_call in receiver.at("/in") if webhook_call.text.startswith("Masih")]


def _incoming(site: Site) -> list[tuple[str, int]]:
    asked = "SELECT text, count(*) FROM incoming WHERE text LIKE 'Masih%%' GROUP BY text ORDER BY text"
    return [(row[0], row[1]) for row in site.rows(asked)]
