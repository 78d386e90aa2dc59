"""Several gateways on one PostgreSQL: what is accepted at one is sent by another, and numbers outlive their carrier."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.harness.webhooks import Receiver
from tests.postgres import Postgres
from tests.reliability.accountant import balance, quiet
from tests.reliability.load import Callers
from tests.reliability.site import Site, open_site

from kurir.numbers.numbers import Number

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MOVED_WITHIN = 30.0
LEASE = 20.0


@pytest.fixture
async def site(postgres: Postgres, tmp_path: Path, receiver: Receiver) -> AsyncIterator[Site]:
    url = postgres.new_database("kurir")
    async with open_site(tmp_path, database_url=url, receiver=receiver.url("/")) as site:
        yield site
    postgres.drop(url)


async def test_accepted_at_one_gateway_sent_by_the_other_and_handed_over_at_once(site: Site, receiver: Receiver):
    callers = Callers(site, "over")
    other = await join(site, "second")
    await all_sendable(callers, site, MOVED_WITHIN)
    theirs = await held_by(other)
    mine = await held_by(site)
    assert {number.id for number in theirs} == {site.shops[1].official.id, site.shops[1].device.id}
    assert len(mine) == len(theirs) == 2

    began = time.monotonic()
    for i in range(5):  # each call waits at one gateway for a verdict that is written by the other
        for number in theirs:
            assert await callers.ask(site, number, site.people[i]) == "200"
        for number in mine:
            assert await callers.ask(other, number, site.people[i]) == "200"
    took = time.monotonic() - began
    sys.stderr.write(f"\n20 messages accepted at one gateway and sent by the other, one by one: {took:.2f} s\n")
    assert took < 20 * 1.0, f"20 messages took {took:.1f} s: nobody rang"

    await peer_calls_run_at_the_holder(site, other)

    calling = asyncio.create_task(callers.go(10_000, callers=4, pause=0.02))
    await asyncio.sleep(1)
    stopping = time.monotonic()
    assert await asyncio.to_thread(other.stop) == 0, other.explain()
    stopped = time.monotonic()
    await until_held(site, 4, LEASE / 2)
    await all_sendable(callers, site, LEASE / 2)
    assert time.monotonic() - stopped < LEASE / 2, "what was given up in order must not wait for a lease to run out"
    assert stopped - stopping < 30

    await asyncio.to_thread(lambda: other.start(KURIR_ROLES="api"))  # from now on it only answers calls
    await all_sendable(callers, other, MOVED_WITHIN)
    assert await held_by(other) == []
    callers.stop()
    await calling
    await quiet(site, 60)
    sheet = await balance(site, callers.log, receiver.webhook_calls)
    sheet.assert_zero(site.explain() + other.explain())
    assert "  unconfirmed" not in sheet.totals


async def test_a_killed_and_a_frozen_holder_are_replaced_and_nothing_goes_out_twice(site: Site, receiver: Receiver):
    frozen, killed = site, await join(site, "second")
    heir = site.beside("third")
    await asyncio.to_thread(heir.start)
    assert [len(await held_by(one)) for one in (frozen, killed, heir)] == [2, 2, 0]

    callers = Callers(site, "gone")
    calling = asyncio.create_task(callers.go(100_000, callers=16, pause=0.02))
    await asyncio.sleep(2)
    assert frozen.process is not None
    os.kill(frozen.process.pid, signal.SIGSTOP)
    await asyncio.to_thread(killed.kill)
    struck = time.monotonic()
    await all_sendable(callers, heir, MOVED_WITHIN)
    moved = time.monotonic() - struck
    assert len(await held_by(heir)) == 4
    sys.stderr.write(f"\nthe numbers of a killed and a frozen gateway moved in {moved:.1f} s\n")
    frozen.kills += 1  # what it had in flight may be in doubt, as after a kill

    os.kill(frozen.process.pid, signal.SIGCONT)
    await until_held(frozen, 2, MOVED_WITHIN)  # it has noticed, and is trusted again under a new name
    assert "leases_lost" in (frozen.folder / "gateway.log").read_text(errors="replace")
    await all_sendable(callers, frozen, MOVED_WITHIN)
    callers.stop()
    await calling
    await quiet(site, 200)
    sheet = await balance(site, callers.log, receiver.webhook_calls)
    sys.stderr.write(f"\n{sheet.render()}\n")
    sheet.assert_zero(f"moved in {moved:.1f} s\n{frozen.explain()}\n{heir.explain()}")
    assert sheet.totals["answered 200"] > 100


async def peer_calls_run_at_the_holder(asked: Site, holder: Site) -> None:
    """What is asked of a device at a gateway that does not carry it: answers, its logout, and its pairing anew."""
    shop = asked.shops[1]
    assert shop.device in await held_by(holder)
    token = (asked.settings.data_dir / "operator.token").read_text(encoding="ascii").strip()
    numbers = f"{asked.url}/api/v1/numbers"
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:

        async def call(method: str, path: str, status: int = 200) -> dict[str, Any]:
            async with session.request(method, f"{numbers}/{shop.device.key}/{path}") as answer:
                assert answer.status == status, await answer.text()
                return await answer.json()

        known = {"api_key": shop.api_key, "number_id": shop.device.key, "phone_no": asked.people[0]}
        async with session.post(f"{asked.url}/public/v1/validate_number", json=known) as answer:
            assert (await answer.json())["code"] == "200"
        assert "contacts" in await call("GET", "contacts")
        assert "groups" in await call("GET", "groups")
        await call("POST", "logout")
        view = await call("POST", "pairing", 201)
        while not view["qr"]:
            view = await call("GET", "pairing?wait=5")
        await asked.sandbox.post("/scan", {"phone": shop.device_phone, "qr": view["qr"]})
        async with asyncio.timeout(MOVED_WITHIN):
            while view["state"] != "paired":
                view = await call("GET", "pairing?wait=5")
        async with asyncio.timeout(MOVED_WITHIN):
            while not await all_connected(session, asked):
                await asyncio.sleep(0.1)


async def all_connected(session: aiohttp.ClientSession, site: Site) -> bool:
    """Whether every device is, as the gateway sees it that is asked."""
    async with session.get(f"{site.url}/api/v1/numbers") as answer:
        return all(number["state"] == "connected" for number in (await answer.json())["numbers"])


# -- what the tests ask -----------------------------------------------------------------------------------------------


async def join(site: Site, name: str) -> Site:
    """Starts a second gateway and waits until it has its half."""
    other = site.beside(name)
    await asyncio.to_thread(other.start)
    await until_held(other, 2, MOVED_WITHIN)
    await until_held(site, 2, MOVED_WITHIN)
    return other


async def held_by(site: Site) -> list[Number]:
    """The numbers that the gateway carries, by the database."""
    rows = await asyncio.to_thread(
        site.rows,
        "SELECT l.number_id FROM leases l JOIN gateways g ON g.key = l.gateway "
        f"WHERE g.url = '{site.url}' ORDER BY l.number_id",
    )
    held = {row[0] for row in rows}
    return [number for number in all_numbers(site) if number.id in held]


async def until_held(site: Site, count: int, limit: float) -> None:
    async with asyncio.timeout(limit):
        while len(await held_by(site)) != count:
            await asyncio.sleep(0.1)


async def all_sendable(callers: Callers, target: Site, limit: float) -> None:
    """Waits until a message of each number gets its verdict, asked for at this gateway."""

    async def works(number: Number) -> None:
        while await callers.ask(target, number, target.people[0]) != "200":
            pass

    async with asyncio.timeout(limit):
        await asyncio.gather(*(works(number) for number in all_numbers(target)))


def all_numbers(site: Site) -> list[Number]:
    return [number for shop in site.shops for number in (shop.official, shop.device)]
