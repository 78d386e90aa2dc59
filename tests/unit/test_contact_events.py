"""What the event log says about contact lists: each change once, in its transaction."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.harness.outbox import OutboxHarness, open_outbox_harness

from kurir.contacts import contacts
from kurir.contacts.contacts import Person
from kurir.events import read
from kurir.events.bodies import WEBHOOK_EVENTS
from kurir.kit.sealing import Sealing
from kurir.kit.url_rules import Allowed
from kurir.webhooks import endpoints
from kurir.webhooks.fan_out import fan_out
from kurir.webhooks.tables import webhook_deliveries


@pytest.fixture
async def harness(where: Path | str) -> AsyncIterator[OutboxHarness]:
    async with open_outbox_harness(where) as opened:
        yield opened


async def changes(harness: OutboxHarness) -> list[tuple[str, str, int]]:
    account = harness.number.account_id
    page = await harness.database.read(lambda c: read.after(c, account, 0))
    found = [json.loads(event.body)["data"] for event in page.events if event.type == "contact_list_changed"]
    return [(one["name"], one["change"], one["people"]) for one in found]


async def test_each_change_of_a_list_is_an_event(harness: OutboxHarness) -> None:
    account = harness.number.account_id

    async def write(work: Any) -> Any:
        return await harness.database.write(work)

    made = await write(lambda c: contacts.create_list(c, account, "Lama", at=1.0))
    people = [Person("6281"), Person("6282")]
    await write(lambda c: contacts.add_audiences(c, account, made.id, people, at=2.0))
    again = [Person("6281", "Sari"), Person("6282", "", {"kota": "Solo"}), Person("6283"), Person("6283", "Budi")]
    await write(lambda c: contacts.add_audiences(c, account, made.id, again, at=2.5))
    await write(lambda c: contacts.rename_list(c, account, made.id, "Baru", at=3.0))
    await write(lambda c: contacts.set_statuses(c, account, made.id, {"6281": "valid"}, at=4.0))
    await write(lambda c: contacts.keep_only(c, account, made.id, ["6281"], at=5.0))
    await write(lambda c: contacts.delete_list(c, account, made.id, at=6.0))
    assert await changes(harness) == [
        ("Lama", "created", 0),
        ("Lama", "people_added", 2),
        ("Lama", "people_added", 1),
        ("Lama", "people_changed", 2),
        ("Baru", "renamed", 0),
        ("Baru", "people_checked", 1),
        ("Baru", "people_removed", 2),
        ("Baru", "deleted", 0),
    ]


async def test_what_changes_nothing_is_no_event(harness: OutboxHarness) -> None:
    account, other = harness.number.account_id, harness.number.account_id + 1
    made = await harness.database.write(lambda c: contacts.create_list(c, account, "Toko", "import", at=1.0))
    await harness.database.write(lambda c: contacts.create_list(c, account, "Toko", "import", at=2.0))
    await harness.database.write(lambda c: contacts.add_audiences(c, account, made.id, [], at=3.0))
    await harness.database.write(lambda c: contacts.keep_only(c, account, made.id, [], at=4.0))
    await harness.database.write(lambda c: contacts.set_statuses(c, account, made.id, {}, at=5.0))
    await harness.database.write(lambda c: contacts.set_statuses(c, account, made.id, {"6289": "valid"}, at=5.0))
    await harness.database.write(lambda c: contacts.rename_list(c, account, made.id, "Toko", at=5.5))
    await harness.database.write(lambda c: contacts.delete_list(c, other, made.id, at=6.0))
    assert await changes(harness) == [("Toko", "created", 0)]


async def test_merging_what_is_known_already_is_no_event(harness: OutboxHarness) -> None:
    account = harness.number.account_id
    made = await harness.database.write(lambda c: contacts.create_list(c, account, "Toko", at=1.0))
    people = [Person("6281", "Sari", {"kota": "Solo"})]
    await harness.database.write(lambda c: contacts.add_audiences(c, account, made.id, people, at=2.0))
    known = [*people, Person("6281"), Person("6281", "Sari")]
    await harness.database.write(lambda c: contacts.add_audiences(c, account, made.id, known, at=3.0))
    assert await changes(harness) == [("Toko", "created", 0), ("Toko", "people_added", 1)]


async def test_a_change_that_is_rolled_back_leaves_no_event(harness: OutboxHarness) -> None:
    account = harness.number.account_id

    def work(connection: Any) -> None:
        contacts.create_list(connection, account, "Toko", at=1.0)
        raise KeyError("no")

    with pytest.raises(KeyError):
        await harness.database.write(work)
    assert await changes(harness) == []


async def test_webhooks_pass_over_it(harness: OutboxHarness) -> None:
    account = harness.number.account_id
    await harness.database.write(
        lambda c: endpoints.add(
            c,
            Sealing(bytes(32)),
            account,
            "https://example.com/",
            allowed=Allowed.parse(""),
            now=1.0,
            events=WEBHOOK_EVENTS,
        )
    )
    await harness.database.write(lambda c: contacts.create_list(c, account, "Toko", at=1.0))
    assert await harness.database.write(lambda c: fan_out(c, account))
    assert not await harness.database.write(lambda c: fan_out(c, account)), "the cursor has moved behind it"
    found = await harness.database.read(lambda c: c.scalar(sa.select(sa.func.count()).select_from(webhook_deliveries)))
    assert found == 0
