"""F2: the gateway, or its engine host, dies at every named point of a message's way, on both channels.

The caller repeats the call under the same key, as a careful client does. Then the message is on the phone exactly
once; only where nobody can know whether it left is it held as `unconfirmed`, and never sent twice.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from tests.postgres import Postgres
from tests.reliability.site import Shop, Site, open_site
from tests.reliability.site_actions import DEVICE, OFFICIAL, Answered, call, connected, kurir, send, until

from kurir.kit.crash_points import POINTS
from kurir.kit.ids import parse_message_id, public_message_id

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
GOOD = {"sent", "delivered", "read"}
MANY = 12
"""Recipients of the broadcasts, who get nothing else."""


@dataclass(frozen=True)
class Case:
    """A point, and what must come of the message: how often it is on the phone, and the states it may end in."""

    point: str
    channel: str
    arrives: int
    ends: frozenset[str]


def case(point: str, channel: str, arrives: int = 1, *, doubt: bool = False) -> Any:
    ends = GOOD | {"unconfirmed"} if doubt and arrives else {"unconfirmed"} if doubt else GOOD
    return pytest.param(Case(point, channel, arrives, frozenset(ends)), id=f"{channel}-{point}")


CASES = [
    case("accept.inserted", DEVICE),
    case("accept.inserted", OFFICIAL),
    case("accept.committed", DEVICE),
    case("accept.committed", OFFICIAL),
    # the device's session proves that nothing left; the Cloud API cannot be asked
    case("claim.committed", DEVICE),
    case("claim.committed", OFFICIAL, 0, doubt=True),
    case("send.begun", DEVICE),
    case("send.begun", OFFICIAL, 0, doubt=True),
    case("engine.sending", DEVICE),
    # its receipt may have reached the host that died
    case("engine.sent", DEVICE, doubt=True),
    case("send.answered", DEVICE, doubt=True),
    # Meta repeats the callback, which carries our id
    case("send.answered", OFFICIAL),
    case("record.committed", DEVICE),
    case("record.committed", OFFICIAL),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["sqlite", "postgres"])
async def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    url = ""
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.new_database("kurir")
    async with open_site(tmp_path_factory.mktemp("crash"), people=len(CASES) + MANY, database_url=url) as site:
        yield site


def test_every_point_has_its_case():
    # a migration that is cut off has tests of its own (test_upgrade)
    assert {one.values[0].point for one in CASES} == POINTS - {"migration.step"}


@pytest.mark.parametrize("case", CASES)
async def test_a_crash_leaves_one_message_and_one_truth(site: Site, case: Case):
    shop, person = site.shops[0], site.people[[one.values[0] for one in CASES].index(case)]
    text = f"{case.channel} at {case.point}"
    await asyncio.to_thread(site.kill)
    await asyncio.to_thread(lambda: site.start(KURIR_CRASH_AT=case.point))
    await connected(site, shop, case.channel)
    await send(site, shop, case.channel, person, text)
    if case.point.startswith("engine."):
        # the gateway lives on and has judged the try of the host that died
        await until(
            site,
            "SELECT count(*) FROM attempts AS a JOIN messages AS m ON m.id = a.message_id WHERE m.recipient = :value",
            person,
        )
        await asyncio.to_thread(site.kill)
    else:
        await died(site)
    await asyncio.to_thread(site.start)

    answer = await send(site, shop, case.channel, person, text)
    assert answer is not None, site.explain()
    # an official number's answer waits for the verdict, which may be that nobody knows
    in_doubt = case.channel == OFFICIAL and case.point in {"claim.committed", "send.begun", "send.answered"}
    assert answer.status in ({200, 408} if in_doubt else {200}), (answer.status, answer.body)
    message_id = parse_message_id(answer.message_id)
    if case.arrives:
        await site.sandbox.arrival(person, lambda m: m["text"] == text)
    state = await until(site, "SELECT state FROM messages WHERE id = :value", message_id, lambda s: s in case.ends)
    if case.channel == DEVICE and case.arrives:
        # a receipt settles the doubt, however late
        await site.sandbox.post(f"/people/{person}/read")
        await until(site, "SELECT state FROM messages WHERE id = :value", message_id, lambda s: s == "read")

    # the way is free for the next message, and nothing came twice
    await send(site, shop, case.channel, person, "next " + text)
    await site.sandbox.arrival(person, lambda m: m["text"] == "next " + text)
    entries = (await site.sandbox.get(f"/ledger?phone={person}&limit=100"))["entries"]
    there = [entry for entry in entries if entry["text"] == text and entry["from"] != person]
    assert len(there) == case.arrives, (state, entries)
    rows = await until(site, "SELECT count(*) FROM messages WHERE recipient = :value", person)
    assert rows == 2


@pytest.mark.parametrize("point", ["accept.inserted", "send.answered:5"])
async def test_a_crash_in_the_middle_of_a_broadcast_reaches_nobody_twice(site: Site, point: str):
    shop, people = site.shops[0], site.people[-MANY:]
    order = f"INV-{point}"
    await asyncio.to_thread(site.kill)
    await asyncio.to_thread(lambda: site.start(KURIR_CRASH_AT=point))
    first = await broadcast(site, shop, people, order)
    await died(site)
    stored = "SELECT count(*) FROM messages WHERE broadcast_id IS NOT NULL AND content LIKE :value"
    # all or none: the half that was inserted went with the process
    assert [row[0] for row in site.rows(stored, value=f"%{order}%")] == [0 if point == "accept.inserted" else MANY]
    await asyncio.to_thread(site.start)

    answer = await broadcast(site, shop, people, order)
    assert answer is not None, site.explain()
    assert answer.status == 200, answer.body
    assert first is None or first.body == answer.body
    busy = stored + " AND state IN ('queued', 'sending')"
    await until(site, busy, f"%{order}%", lambda count: count == 0)
    arrived = [
        entry["phone"]
        for person in people
        for entry in (await site.sandbox.get(f"/ledger?phone={person}&limit=100"))["entries"]
        if order in entry["bubble"]
    ]
    # Meta's callbacks carry our ids: whatever arrived becomes known to have arrived
    delivered = stored + " AND state = 'delivered'"
    await until(site, delivered, f"%{order}%", lambda count: count == len(arrived))
    there = "SELECT recipient FROM messages WHERE content LIKE :value AND state = 'delivered'"
    assert sorted(arrived) == sorted(row[0] for row in site.rows(there, value=f"%{order}%"))
    assert await until(
        site, stored + " AND state = 'unconfirmed'", f"%{order}%", lambda count: count is not None
    ) == MANY - len(arrived)
    if point == "accept.inserted":
        assert len(arrived) == MANY


async def test_an_account_may_choose_to_send_again_what_nobody_knows(site: Site):
    shop, person = site.shops[1], site.people[0]
    await asyncio.to_thread(site.kill)
    await asyncio.to_thread(lambda: site.start(KURIR_CRASH_AT="send.begun"))
    await kurir(site, "account", "set", "toko1@example.com", "--doubt", "resend")
    assert await send(site, shop, OFFICIAL, person, "once more") is None
    await died(site)
    await asyncio.to_thread(lambda: site.start(KURIR_CLOUD_RECEIPT_WAIT="1"))
    await site.sandbox.arrival(person, lambda m: m["text"] == "once more")
    sent = "SELECT m.state FROM messages AS m WHERE m.account_id = :value"
    await until(site, sent, shop.account_id, lambda state: state in GOOD)
    listed = await kurir(site, "message", "list", "toko1@example.com")
    (message,) = re.findall(r"msg_[0-9a-z]{13}", listed)
    shown = await kurir(site, "message", "show", message)
    assert [shown.find(word) > 0 for word in ("in_doubt", "resend", "sent")] == [True] * 3, shown


async def test_a_person_replays_what_is_held(site: Site):
    shop, person = site.shops[0], site.people[1]
    await asyncio.to_thread(site.kill)
    await asyncio.to_thread(lambda: site.start(KURIR_CRASH_AT="send.begun"))
    assert await send(site, shop, OFFICIAL, person, "held") is None
    await died(site)
    await asyncio.to_thread(site.start)
    held = "SELECT max(id) FROM messages WHERE recipient = :value AND state = 'unconfirmed'"
    message = public_message_id(await until(site, held, person))
    assert message in await kurir(site, "message", "list", "toko0@example.com", "--state", "unconfirmed")
    assert "queued" in await kurir(site, "message", "replay", message)
    await site.sandbox.arrival(person, lambda m: m["text"] == "held")
    await until(site, "SELECT state FROM messages WHERE id = :value", parse_message_id(message), lambda s: s in GOOD)
    refused = await kurir(site, "message", "cancel", message, message, code=1)
    assert refused.count("only a message that is") == 2  # each is decided, each refusal is named


async def died(site: Site) -> None:
    """Waits until the gateway has ended itself."""
    assert site.process is not None
    assert await asyncio.to_thread(site.process.wait, 30) == -signal.SIGKILL, site.explain()


async def broadcast(site: Site, shop: Shop, people: list[str], order: str) -> Answered | None:
    """An approved template to many people, under a key of its own; None when the gateway died over it."""
    parameters = [{"type": "text", "text": text} for text in ("Kak", order)]
    template = {
        "name": "pesanan_dikirim",
        "language": "id",
        "components": [{"type": "body", "parameters": parameters}],
    }
    fields = {"licenses_key": shop.official.key, "recipients": people, "template": template, "idempotency_key": order}
    return await call(site, shop, "send_message_template", fields)
