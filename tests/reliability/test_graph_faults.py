"""F7: whatever the Graph API does to calls and callbacks under load, the books balance afterwards.

What may have left is never sent again on a guess; what did leave is known in the end, because Meta's callbacks carry
our ids. `KURIR_STORM_FAULT_CALLS` raises the dose (calls for each fault).
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from tests.harness.webhooks import Receiver
from tests.reliability.accountant import balance, quiet
from tests.reliability.load import Callers
from tests.reliability.measurements import report
from tests.reliability.site import Site, open_site
from tests.reliability.site_actions import OFFICIAL, kurir, send, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]
CALLS = int(os.environ.get("KURIR_STORM_FAULT_CALLS", "16"))

SENDS: dict[str, dict[str, Any]] = {
    "500 with a Graph error": {"kind": "send", "effect": "error", "code": 131000},
    "429 with Retry-After": {"kind": "send", "effect": "http", "status": 429, "retry_after": 1},
    "throughput of the number": {"kind": "send", "effect": "error", "code": 130429},
    "pair rate": {"kind": "send", "effect": "error", "code": 131056},
    "answered late": {"kind": "send", "effect": "late_answer", "seconds": 1.0},
    "done, then reset": {"kind": "send", "effect": "drop_answer"},
    "answer cut short": {"kind": "send", "effect": "truncate_answer"},
    "callbacks before the answer": {"effect": "callbacks_first", "seconds": 1.0},
}
DOUBTFUL: dict[str, dict[str, Any]] = {
    "bare 502": {"kind": "send", "effect": "http", "status": 502},
    "no answer at all": {"kind": "send", "effect": "hang", "seconds": 4.0},
    "reset before the body": {"kind": "send", "effect": "reset"},
    "reset after the body": {"kind": "send", "effect": "reset_after_body"},
}
"""Nothing leaves, but the gateway cannot know: these stay unconfirmed."""
CALLBACKS: dict[str, dict[str, Any]] = {
    "callback twice": {"effect": "duplicate_callback"},
    "callback late": {"effect": "late_callback", "seconds": 1.5},
    "callbacks out of order": {"effect": "swap_callback", "seconds": 1.0},
    "callback never": {"effect": "withhold_callback", "kind": "delivered"},
}


async def test_whatever_the_graph_api_does_the_books_balance(tmp_path: Path, receiver: Receiver):
    async with open_site(tmp_path, receiver=receiver.url("/")) as site:
        await asyncio.to_thread(site.stop)
        await asyncio.to_thread(lambda: site.start(KURIR_GRAPH_TIMEOUT="2.5"))
        callers = Callers(site, "graph")
        hits = {}
        for name, fault in {**SENDS, **DOUBTFUL, **CALLBACKS}.items():
            hits[name] = await under(site, callers, fault)
        await quiet(site, 180)
        doubts = sum(hits[name] for name in DOUBTFUL)
        sheet = await balance(site, callers.log, receiver.webhook_calls, doubts=doubts)
    struck = "\n".join(f"{name:<28}{count:>8}" for name, count in hits.items())
    report(f"the books after faults of the Graph API, {len(callers.log)} calls", f"{struck}\n{sheet.render()}")
    sheet.assert_zero(site.explain())
    assert all(hits.values()), hits
    # whatever arrived is known to have arrived, also when every answer was lost
    assert sheet.totals["unconfirmed that arrived"] == 0
    assert sheet.totals["answered 200"] > 0.9 * (len(callers.log) - doubts)  # whose calls are told of the doubt


async def under(site: Site, callers: Callers, fault: dict[str, Any]) -> int:
    """Calls under a fault that strikes every second time; returns how often it struck."""
    planned = await site.sandbox.post("/faults", {"channel": "cloud_api", "probability": 0.5, **fault})
    await callers.go(CALLS, callers=4)
    if fault["effect"].endswith("callback"):
        await asyncio.sleep(0.5)  # the callbacks of these calls are on their way
    # the last count: a call that is still under way may strike between a look and the end
    ended = await site.sandbox.delete(f"/faults/{planned['id']}")
    return int(ended["fault"]["hits"])


@pytest.mark.parametrize("how", ["the answer", "a callback"])
async def test_what_a_person_must_settle_pauses_the_number_and_keeps_its_queue(
    tmp_path: Path, receiver: Receiver, how: str
):
    async with open_site(tmp_path, people=4, receiver=receiver.url("/")) as site:
        shop, (first, second, third, fourth) = site.shops[0], site.people
        only = ["--event", "device_status", "--number", shop.official.key]
        await kurir(site, "webhook", "add", "toko0@example.com", receiver.url("/states"), *only)
        token = {business["phone"]: business["access_token"] for business in await site.sandbox.get("/businesses")}
        trouble = {"effect": "error", "code": 190} if how == "the answer" else {"effect": "fail", "code": 131048}
        await site.sandbox.post("/faults", {"channel": "cloud_api", "phone": first, "count": 1, **trouble})
        message = await send(site, shop, OFFICIAL, first, "meets it")
        assert message is not None
        if how == "the answer":
            assert (message.status, message.body["message"]["state"]) == (200, "queued")
            assert "kurir number token" in message.body["message"]["detail"]
        await until(site, "SELECT paused_at FROM numbers WHERE key = :value", shop.official.key)
        ends = "queued" if how == "the answer" else "failed"
        meets = "SELECT state FROM messages WHERE recipient = :value"
        await until(site, meets, first, lambda found: found == ends)

        for person in (second, third):
            message = await send(site, shop, OFFICIAL, person, f"waits {person}")
            assert message is not None
            assert (message.status, message.body["message"]["state"]) == (200, "queued")
        await asyncio.to_thread(site.kill)
        await asyncio.to_thread(site.start)
        message = await send(site, shop, OFFICIAL, fourth, "waits too")
        assert message is not None
        assert message.body["message"]["state"] == "queued"
        [waiting] = site.rows("SELECT count(*) FROM messages WHERE state = 'queued' AND attempts = 0")
        assert waiting[0] == (4 if how == "the answer" else 3)
        listed = await kurir(site, "number", "list")
        assert "paused" in listed
        assert "only a paused number" in await kurir(site, "number", "resume", site.shops[1].official.key, code=1)

        if how == "the answer":
            new = token[shop.official.phone]
            assert "goes on" in await kurir(site, "number", "token", shop.official.key, KURIR_META_TOKEN=new)
        else:
            assert "goes on" in await kurir(site, "number", "resume", shop.official.key)
        for person in (second, third, fourth):
            await site.sandbox.arrival(person, lambda m: m["text"].startswith("waits"), timeout=60)
        if how == "the answer":
            await site.sandbox.arrival(first, lambda m: m["text"] == "meets it", timeout=60)
        await quiet(site, 60)
        ledger = (await site.sandbox.get("/ledger?limit=100"))["entries"]
        texts = [entry["text"] for entry in ledger if entry["from"] == shop.official.phone]
        assert sorted(texts) == ["meets it"] * (how == "the answer") + [
            f"waits {second}",
            f"waits {third}",
            "waits too",
        ]
        await receiver.until(2, "/states")
        states = [webhook_call.json["data"]["state"] for webhook_call in receiver.at("/states")]
        assert states == ["paused", "connected"]
