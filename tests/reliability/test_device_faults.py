"""F9: what WhatsApp does to linked devices: the lane pauses, the state says why, owners are told, nobody storms.

`KURIR_STORM_DEVICES` raises the number of devices of the reconnect storm, `KURIR_STORM_OUTAGE` its seconds.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from tests.harness.webhooks import Receiver, receiving, verified
from tests.reliability.operator import Operator, operating
from tests.reliability.site import Shop, Site, open_site

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(1800),
]
DEVICES = int(os.environ.get("KURIR_STORM_DEVICES", "4"))
OUTAGE = float(os.environ.get("KURIR_STORM_OUTAGE", "8"))
ANSWER_LIMIT = 4.0
"""Seconds that this site's gateway gives an engine call, in place of 90: longer than any answer that comes."""


@dataclass
class Ward:
    """The site, its operator, and what the first shop's server is told of its device."""

    site: Site
    operator: Operator
    receiver: Receiver
    secret: str

    def reported(self, since: int = 0) -> list[dict[str, Any]]:
        """The device states that came, with their reasons."""
        return [verified(webhook_call, self.secret)["data"] for webhook_call in self.receiver.at("/devices")[since:]]

    async def hears(self, state: str, since: int) -> dict[str, Any]:
        """What was told about a state since so many letters."""
        async with asyncio.timeout(30):
            while not (found := [one for one in self.reported(since) if one["state"] == state]):
                await asyncio.sleep(0.05)
        return found[-1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ward(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ward]:
    folder = tmp_path_factory.mktemp("faults")
    async with receiving() as receiver, open_site(folder, people=12, shops=DEVICES) as site:
        assert await asyncio.to_thread(site.stop) == 0
        secret = await asyncio.to_thread(site.watch, site.shops[0], receiver.url("/devices"), "device_status")
        site.environment |= {"KURIR_ENGINE_TIMEOUT": str(ANSWER_LIMIT), "KURIR_DEVICES_PER_HOST": str(DEVICES)}
        await asyncio.to_thread(site.start)
        async with operating(site) as operator:
            await operator.all_connected()
            yield Ward(site, operator, receiver, secret)


async def paused(ward: Ward, shop: Shop, person: str, state: str, since: int) -> tuple[int, dict[str, Any]]:
    """The device is in `state`, its owner was told, and a message handed in now waits."""
    operator = ward.operator
    shown = await operator.becomes(shop, state)
    reported = await ward.hears(state, since)
    assert reported["reason"] == shown["state_reason"]
    message = await operator.send(shop, person, f"during {state}")
    assert await operator.state(message) == "queued"
    return message, reported


async def test_a_logged_out_device_keeps_its_queue_until_it_is_paired_again(ward: Ward):
    operator, shop, person = ward.operator, ward.site.shops[0], ward.site.people[0]
    since = len(ward.reported())
    await ward.site.sandbox.post(f"/devices/{await operator.jid(shop)}/unlink")
    message, reported = await paused(ward, shop, person, "logged_out", since)
    assert "pair it again" in reported["reason"]
    assert await operator.state(message) == "queued"
    await operator.pair(shop)
    await operator.state(message, "delivered")
    assert await operator.times_on(person, "during logged_out") == 1
    assert (await ward.hears("connected", since))["number_id"] == shop.device.key


async def test_a_replaced_device_stays_away_until_it_is_taken_back(ward: Ward):
    operator, shop, person = ward.operator, ward.site.shops[0], ward.site.people[1]
    since, logins = len(ward.reported()), await operator.logins(shop)
    await ward.site.sandbox.post(f"/devices/{await operator.jid(shop)}/replace")
    message, reported = await paused(ward, shop, person, "replaced", since)
    assert "pair the number again" in reported["reason"]
    assert await operator.seen(logins) == 0, "it fights with whoever replaced it"
    await operator.pair(shop)
    await operator.state(message, "delivered")
    assert await operator.times_on(person, "during replaced") == 1
    assert await operator.seen(logins) == 1, "the session was still good: no new pairing was needed"


async def test_a_banned_device_says_for_how_long_and_does_not_knock(ward: Ward):
    operator, shop, person = ward.operator, ward.site.shops[0], ward.site.people[2]
    since = len(ward.reported())
    ban = {"effect": "refuse_login", "number": shop.device_phone, "reason": 402}
    ban = await ward.site.sandbox.post("/faults", {**ban, "attributes": {"code": "101", "expire": "3600"}})
    await ward.site.sandbox.post(f"/devices/{await operator.jid(shop)}/drop")
    message, reported = await paused(ward, shop, person, "banned", since)
    assert "3600 seconds" in reported["reason"]
    assert await operator.seen(ban["id"]) == 1
    await ward.site.sandbox.delete(f"/faults/{ban['id']}")
    # whoever knows that it is over need not wait
    await operator.pair(shop)
    await operator.state(message, "delivered")
    assert await operator.times_on(person, "during banned") == 1


@pytest.mark.parametrize(
    ("effect", "ends", "arrived"), [("withhold_ack", "delivered", 1), ("swallow_message", "unconfirmed", 0)]
)
async def test_a_message_whose_ack_never_comes_is_sent_once(ward: Ward, effect: str, ends: str, arrived: int):
    operator, shop = ward.operator, ward.site.shops[0]
    person = ward.site.people[3 if arrived else 4]
    since = len(ward.reported())
    await ward.site.sandbox.post("/faults", {"effect": effect, "number": shop.device_phone, "count": 1})
    began = time.monotonic()
    message = await operator.send(shop, person, effect)
    await ward.hears("connecting", since)
    assert time.monotonic() - began >= ANSWER_LIMIT
    await ward.hears("connected", since)
    await operator.state(message, ends)
    after = await operator.send(shop, person, "and then")
    await operator.state(after, "delivered")
    assert await operator.times_on(person, "and then") == 1
    assert await operator.times_on(person, effect) == arrived


async def test_all_devices_come_back_from_an_outage_without_a_storm(ward: Ward):
    operator, site = ward.operator, ward.site
    await operator.all_connected()
    began = time.monotonic()
    refusals = [
        await site.sandbox.post("/faults", {"effect": "refuse_login", "number": shop.device_phone, "reason": 503})
        for shop in site.shops
    ]
    for shop in site.shops:
        await site.sandbox.post(f"/devices/{await operator.jid(shop)}/drop")
    for shop in site.shops:
        await operator.device(shop, lambda one: one["state"] != "connected")
    messages = [await operator.send(shop, site.people[5], f"outage {i}") for i, shop in enumerate(site.shops)]
    await asyncio.sleep(OUTAGE)
    tried = [await operator.seen(refusal["id"]) for refusal in refusals]
    seconds = time.monotonic() - began
    assert min(tried) > 0
    assert max(tried) <= 1 + seconds / 5, f"{tried} logins in {seconds:.1f} s"
    for refusal in refusals:
        await site.sandbox.delete(f"/faults/{refusal['id']}")
    await operator.all_connected(30 + OUTAGE)
    for message in messages:
        await operator.state(message, "delivered")
    assert [await operator.times_on(site.people[5], f"outage {i}") for i in range(len(messages))] == [1] * len(messages)
    sys.stderr.write(f"\n{len(tried)} devices, {seconds:.1f} s of 503: at most {max(tried)} logins of one device\n")
