"""How far a broadcast has come, in the event log: accepted, running in steps of a percent, done; each step once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.unit.outbox.harness import Harness, open_harness

from kurir.broadcasts.broadcasts import Broadcast
from kurir.broadcasts.progress import MOST, Progress
from kurir.broadcasts.start import start
from kurir.events import read
from kurir.kit.sealing import Sealing
from kurir.kit.url_rules import Allowed
from kurir.messages.content import TemplateUse
from kurir.messages.reports import Sent
from kurir.webhooks import endpoints


@pytest.fixture
async def harness(where: Path | str) -> AsyncIterator[Harness]:
    async with open_harness(where) as opened:
        yield opened


async def broadcast(harness: Harness, people: int) -> Broadcast:
    content = TemplateUse("promo", "id", [])
    recipients = [f"62812{n:07}" for n in range(people)]
    return (await start(harness.outbox, harness.number, recipients, content, harness.time()))[0]


async def send(harness: Harness, count: int) -> None:
    """So many of the waiting messages leave."""
    for claimed in await harness.claim(count):
        await harness.outbox.record(claimed, Sent(f"wamid.{claimed.id}"))


async def published(harness: Harness, kind: str = "broadcast_status") -> list[dict[str, Any]]:
    account = harness.number.account_id
    page = await harness.database.read(lambda c: read.after(c, account, 0, 5000, (kind,)))  # type: ignore[arg-type]
    return [json.loads(event.body)["data"] for event in page.events]


async def test_a_broadcast_is_accepted_runs_and_is_done(harness: Harness) -> None:
    made = await broadcast(harness, 3)
    progress = Progress(harness.database, harness.time)
    assert await progress.publish_all() == 0, "nothing has moved"
    await send(harness, 1)
    assert await progress.publish_all() == 1
    assert await progress.publish_all() == 0, "published already"
    await send(harness, 2)
    assert await progress.publish_all() == 1
    assert await progress.publish_all() == 0, "it is over"
    found = await published(harness)
    assert [(one["status"], one["counts"]) for one in found] == [
        ("accepted", {"queued": 3}),
        ("running", {"queued": 2, "sent": 1}),
        ("done", {"sent": 3}),
    ]
    assert {(one["bc_id"], one["number_id"], one["recipients"]) for one in found} == {(made.key, harness.number.key, 3)}


async def test_a_large_one_is_published_in_steps_of_a_percent(harness: Harness) -> None:
    await broadcast(harness, 300)
    progress = Progress(harness.database, harness.time)
    await send(harness, 2)
    assert await progress.publish_all() == 0
    await send(harness, 1)
    assert await progress.publish_all() == 1


async def test_of_a_single_message_its_own_events_say_everything(harness: Harness) -> None:
    await broadcast(harness, 1)
    await send(harness, 1)
    assert await Progress(harness.database, harness.time).publish_all() == 0
    assert await published(harness) == []
    assert [one["status"] for one in await published(harness, "message_status")] == ["sent"]


async def test_two_gateways_publish_a_step_once(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    await broadcast(harness, 2)
    await send(harness, 1)
    first, second = Progress(harness.database, harness.time), Progress(harness.database, harness.time)
    overtaken: list[int] = []
    write = harness.database.write

    async def overtaken_write(work: Any, **options: Any) -> Any:
        """The other gateway publishes between the first one's count and its transaction."""
        if not overtaken:
            overtaken.append(0)
            overtaken[0] = await second.publish_all()
        return await write(work, **options)

    monkeypatch.setattr(harness.database, "write", overtaken_write)
    assert await first.publish_all() == 0
    assert overtaken == [1]
    assert [one["status"] for one in await published(harness)] == ["accepted", "running"]


async def test_a_round_goes_on_where_the_last_one_ended(harness: Harness) -> None:
    for _ in range(MOST + 3):
        await broadcast(harness, 2)
    await send(harness, 2 * (MOST + 3))
    progress = Progress(harness.database, harness.time)
    assert await progress.publish_all() == MOST
    assert await progress.publish_all() == 3


async def test_only_running_broadcasts_are_looked_at(harness: Harness) -> None:
    """A round of an idle gateway is one statement, however many broadcasts there were."""
    for _ in range(5):
        await broadcast(harness, 2)
    await send(harness, 10)
    progress = Progress(harness.database, harness.time)
    assert await progress.publish_all() == 5
    asked: list[str] = []
    sa.event.listen(
        harness.database.engine, "before_cursor_execute", lambda _c, _k, statement, *_more: asked.append(statement)
    )
    assert await progress.publish_all() == 0
    assert len([one for one in asked if one.startswith("SELECT")]) == 1


async def test_an_endpoint_may_ask_for_it_and_not_for_what_concerns_no_number(harness: Harness) -> None:
    def add(connection: sa.Connection, *kinds: str) -> endpoints.Endpoint:
        return endpoints.add(
            connection,
            Sealing(bytes(32)),
            harness.number.account_id,
            "https://example.com/",
            allowed=Allowed.parse(""),
            now=1.0,
            events=kinds,
        )[0]

    added = await harness.database.write(lambda c: add(c, "broadcast_status"))
    assert added.events == ("broadcast_status",)
    with pytest.raises(endpoints.EndpointError, match="expected one of"):
        await harness.database.write(lambda c: add(c, "contact_list_changed"))
