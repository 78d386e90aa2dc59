"""A device that says connected but is dead is found, told of, and connected anew; the queue goes on."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest
from tests.harness.webhooks import Receiver, verified
from tests.reliability.operator import operating
from tests.reliability.site import open_site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


async def test_a_dead_line_is_found_and_the_queue_goes_on(tmp_path: Path, receiver: Receiver):
    async with open_site(tmp_path, people=3, receiver=receiver.url("/")) as site, operating(site) as operator:
        ill, well = site.shops
        sandbox, (first, second, third) = site.sandbox, site.people
        assert await asyncio.to_thread(site.stop) == 0
        secret = await asyncio.to_thread(site.watch, ill, receiver.url("/devices"), "device_status")
        settings = {"KURIR_DEVICE_CHECK_AFTER": "1", "KURIR_DEVICE_CHECK_TIMEOUT": "2"}
        await asyncio.to_thread(lambda: site.start(**settings))
        await operator.all_connected()
        seen = await operator.device(ill, lambda one: one["round_trip"] is not None)
        assert 0 < seen["round_trip"] < 2
        assert abs(time.time() - seen["last_heard_at"]) < 30
        assert await operator.metric('kurir_linked_devices{state="connected"}') == 2
        assert 0 < await operator.metric("kurir_device_round_trip_seconds") < 2
        known = await operator.send(ill, first, "before")
        await operator.state(known, "delivered")

        logins = await operator.logins(ill)
        already = len(receiver.at("/devices"))
        silence = await sandbox.post("/faults", {"effect": "silence", "number": ill.device_phone, "count": 1})
        async with asyncio.timeout(30):
            while not await operator.seen(silence["id"]):
                await asyncio.sleep(0.05)
        began = time.monotonic()
        into_silence = await operator.send(ill, first, "into the silence")
        queued = [await operator.send(ill, second, f"meanwhile {n}") for n in range(3)]
        await receiver.until(already + 1, "/devices", 60)
        found = time.monotonic() - began
        await operator.becomes(ill, "connected", 30)
        for message in queued:
            await operator.state(message, "delivered")
        # written to the dead line under an id: nobody knows, so it is held, not sent twice
        assert await operator.state(into_silence, "unconfirmed", "delivered", "sent")
        after = await operator.send(ill, third, "after")
        await operator.state(after, "delivered")
        assert [await operator.times_on(second, f"meanwhile {n}") for n in range(3)] == [1, 1, 1]
        assert await operator.times_on(third, "after") == 1
        assert await operator.times_on(first, "into the silence") <= 1
        reported = [
            verified(webhook_call, secret)["data"] for webhook_call in await receiver.until(already + 3, "/devices", 20)
        ]
        reported = reported[already:]
        assert [one["state"] for one in reported] == ["degraded", "connecting", "connected"]
        assert reported[0]["reason"] == "connected, but WhatsApp does not answer"
        assert reported[0]["number_id"] == ill.device.key
        # the other device, in the same host or not, was never touched
        assert (await operator.numbers())[well.device.key]["state"] == "connected"
        assert await operator.seen(logins) == 1
        sys.stderr.write(f"\nfound dead after {found:.1f} s; checked after 1 s, answer within 2 s\n")
