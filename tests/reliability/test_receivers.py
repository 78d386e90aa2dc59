"""F12: customers' servers that are away, fail or hang under load, and a gateway that is restarted meanwhile.

Nobody waits for them, and when they are back each has everything, in order. `KURIR_STORM_RECEIVER_CALLS` raises the
dose (calls before, during and after the outage).
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from tests.harness.webhooks import Receiver, eventually, receiving
from tests.reliability.accountant import balance, quiet
from tests.reliability.load import Callers
from tests.reliability.measurements import report
from tests.reliability.site import Shop, Site, open_site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]
CALLS = int(os.environ.get("KURIR_STORM_RECEIVER_CALLS", "12"))
TIMEOUT = 60.0 + CALLS / 5
AT_ONCE = 4
"""Tries at once to one address."""
GIVEN_UP = (
    "SELECT count(*) FROM webhook_attempts a JOIN webhook_endpoints e ON e.id = a.endpoint_id"
    " WHERE e.url = :url AND a.succeeded = 0"
)


@dataclass
class People:
    """They write to both numbers of both shops; `said` is their own log."""

    site: Site
    written: dict[tuple[int, str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    _count: itertools.count = field(default_factory=itertools.count)

    async def write(self, people: Iterable[str]) -> None:
        """Each of them writes once to each number."""
        for person in people:
            for shop in self.site.shops:
                for to, key in ((shop.device_phone, shop.device.key), (shop.official.phone, shop.official.key)):
                    text = f"tanya {next(self._count)}"
                    await self.site.sandbox.post(f"/people/{person}/messages", {"to": to, "text": text})
                    self.written[shop.account_id, key, person].append(text)

    def to(self, shop: Shop) -> set[str]:
        """What was written to a shop."""
        return {text for (account, _, _), texts in self.written.items() if account == shop.account_id for text in texts}


async def test_receivers_that_fail_delay_nobody_and_miss_nothing(tmp_path: Path, receiver: Receiver):
    """`receiver` is the one that goes away; `steady` has the healthy, the failing and the hanging addresses."""
    released = asyncio.Event()

    async def hang(_request: web.Request) -> web.StreamResponse:
        await released.wait()
        return web.Response()

    async with receiving() as steady, open_site(tmp_path, people=6, receiver=receiver.url("/")) as site:
        shop, neighbour = site.shops
        newcomer = site.people.pop()
        hooks = [(receiver, "/all", shop), (steady, "/neighbour", neighbour)]
        hooks += [(steady, path, shop) for path in ("/healthy", "/fails", "/hangs")]
        for where, path, of in hooks:
            await asyncio.to_thread(site.watch, of, where.url(path), "incoming_chat", "message_status")
        callers, people = Callers(site, "hooks"), People(site)

        async def load() -> None:
            async with asyncio.TaskGroup() as both:
                both.create_task(callers.go(CALLS, callers=4))
                both.create_task(people.write(site.people[: max(2, CALLS // 8)]))

        async def have_all() -> bool:
            reported = (("/healthy", shop), ("/neighbour", neighbour))
            return all(has_all(steady, path, of, callers, people) for path, of in reported)

        await load()
        await eventually(have_all, timeout=TIMEOUT)

        port = await receiver.stop()
        steady.replies |= {"/fails": (500,), "/hangs": hang}
        before = {path: len(steady.at(path)) for path in ("/fails", "/hangs")}
        # all that may hang at once does; whoever writes now is heard by the others before the first try is given up
        await people.write(site.people[:AT_ONCE])
        await steady.until(before["/hangs"] + AT_ONCE, "/hangs", timeout=TIMEOUT)
        await people.write(site.people[AT_ONCE:])
        await eventually(have_all, timeout=TIMEOUT)
        assert site.rows(GIVEN_UP, url=steady.url("/hangs"))[0][0] == 0, "the others have waited for it"
        await load()
        await eventually(have_all, timeout=TIMEOUT)
        assert not released.is_set()
        assert len(steady.at("/fails")) > before["/fails"]
        open_ = "SELECT count(*) FROM webhook_deliveries WHERE state IN ('waiting', 'pending', 'sending')"
        assert site.rows(open_)[0][0] > CALLS
        # an outage is when people restart things
        assert await asyncio.to_thread(site.stop) == 0
        await asyncio.to_thread(site.start)

        await receiver.start(port)
        del steady.replies["/fails"]
        released.set()
        # whatever gets through brings the rest along: nobody waits for tries that are due in minutes
        await load()
        await people.write([newcomer])
        for of in site.shops:
            assert await callers.ask(site, of.official, newcomer) == "200"
        await quiet(site, TIMEOUT)
        webhook_calls = [
            m for m in receiver.webhook_calls if m.path in {f"/{shop.account_id}", f"/{neighbour.account_id}"}
        ]
        sheet = await balance(site, callers.log, webhook_calls)
        report(f"the books after receivers that fail, {len(callers.log)} calls", sheet.render())
        sheet.assert_zero(site.explain())
        assert sheet.totals["answered 200"] == len(callers.log)
        assert sheet.totals["  delivered"] == len(callers.log)
        for where, path, of in hooks:
            assert_complete(site, where, path, people, of)


def has_all(where: Receiver, path: str, shop: Shop, callers: Callers, people: People) -> bool:
    """Whether the address was told of everything that was written to the shop and of each call's delivery."""
    called = {call.message_id for call in callers.log if call.account_id == shop.account_id and call.code == "200"}
    data = [webhook_call.json["data"] for webhook_call in where.at(path)]
    delivered = {one["message_id"] for one in data if one.get("status") == "delivered"}
    return called <= delivered and people.to(shop) <= {one["message_body"] for one in data if "message_body" in one}


def assert_complete(site: Site, where: Receiver, path: str, people: People, shop: Shop) -> None:
    """Each event came, with its own body, and no event of a chat before the one ahead of it was done with."""
    events = site.rows(
        "SELECT e.key, e.body, d.number_id, d.chat, d.state FROM webhook_deliveries d"
        " JOIN events e ON e.id = d.event_id JOIN webhook_endpoints p ON p.id = d.endpoint_id"
        " WHERE p.url = :url ORDER BY d.id",
        url=where.url(path),
    )
    webhook_calls = where.at(path)
    assert {event.state for event in events} == {"delivered"}
    assert {(webhook_call.id, webhook_call.body.decode()) for webhook_call in webhook_calls} == {
        (event.key, event.body) for event in events
    }
    chat_of = {event.key: (event.number_id, event.chat) for event in events}
    wanted: dict[tuple[int, str], list[str]] = defaultdict(list)
    came: dict[tuple[int, str], list[str]] = defaultdict(list)
    for event in events:
        wanted[event.number_id, event.chat].append(event.key)
    for webhook_call in webhook_calls:
        of_chat = came[chat_of[webhook_call.id]]
        if of_chat[-1:] != [webhook_call.id]:  # a further try of the same
            of_chat.append(webhook_call.id)
    assert came == wanted, path
    bodies = {webhook_call.id: webhook_call.json for webhook_call in webhook_calls}
    number_of = {webhook_call.id: webhook_call.headers["bls-oto-numberid"] for webhook_call in webhook_calls}
    for (account, number, person), texts in people.written.items():
        heard = [
            body["data"]["message_body"]
            for key, body in bodies.items()
            if body["type"] == "incoming_chat" and number_of[key] == number and not body["data"]["is_from_me"]
            if body["data"]["chat_id"] == f"{person}@c.us"
        ]
        assert heard == (texts if account == shop.account_id else []), (path, number, person)
