"""What the event log says about numbers that are added, renamed and removed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.harness.outbox import OutboxHarness, open_outbox_harness

from kurir.events import read
from kurir.events.bodies import WEBHOOK_EVENTS
from kurir.kit.sealing import Sealing
from kurir.kit.url_rules import Allowed
from kurir.numbers.tables import numbers as number_table
from kurir.services.errors import NotFound, NotPossible
from kurir.services.numbers import Numbers, OfficialNumber
from kurir.webhooks import endpoints
from kurir.webhooks.fan_out import fan_out
from kurir.webhooks.tables import webhook_deliveries

OFFICIAL = OfficialNumber("6281100", "111", "222", "333", "token", "secret", "verify", "Resmi")


@pytest.fixture
async def harness(where: Path | str) -> AsyncIterator[OutboxHarness]:
    async with open_outbox_harness(where) as opened:
        yield opened


def numbers_of(harness: OutboxHarness) -> Numbers:
    return Numbers(harness.database, Sealing(bytes(32)), lambda: 1_766_300_000.5)


async def changes(harness: OutboxHarness) -> list[tuple[int | None, dict[str, object]]]:
    account = harness.number.account_id
    page = await harness.database.read(lambda c: read.after(c, account, 0))
    return [(one.number_id, json.loads(one.body)["data"]) for one in page.events if one.type == "number_changed"]


async def test_each_change_of_a_number_is_an_event(harness: OutboxHarness) -> None:
    numbers, account = numbers_of(harness), harness.number.account_id
    device = await numbers.add_device(account, "Toko")
    official = await numbers.add_official(account, OFFICIAL)
    await numbers.rename(account, device.key, "Kasir")
    await numbers.remove(account, device.key)
    of_device = {"number_id": device.key, "phone": "", "channel": "linked_device", "timestamp": 1_766_300_000}
    of_official = {"number_id": official.key, "phone": "6281100", "channel": "cloud_api", "timestamp": 1_766_300_000}
    assert await changes(harness) == [
        (device.id, {**of_device, "name": "Toko", "change": "added"}),
        (official.id, {**of_official, "name": "Resmi", "change": "added"}),
        (device.id, {**of_device, "name": "Kasir", "change": "renamed"}),
        (device.id, {**of_device, "name": "Kasir", "change": "removed"}),
    ]


async def test_what_changes_nothing_is_no_event(harness: OutboxHarness) -> None:
    numbers, account = numbers_of(harness), harness.number.account_id
    device = await numbers.add_device(account, "Toko")
    await numbers.rename(account, device.key, "Toko")
    for refused in (numbers.rename(account + 1, device.key, "x"), numbers.remove(account + 1, device.key)):
        with pytest.raises(NotFound):
            await refused
    linked = harness.number
    paired = number_table.update().where(number_table.c.id == linked.id).values(jid="6281:1@s.whatsapp.net")
    await harness.database.write(lambda c: c.execute(paired))
    with pytest.raises(NotPossible):
        await numbers.remove(account, linked.key)
    assert [one["change"] for _, one in await changes(harness)] == ["added"]


async def test_two_who_rename_and_remove_at_once_make_one_event_each(harness: OutboxHarness) -> None:
    numbers, account = numbers_of(harness), harness.number.account_id
    device = await numbers.add_device(account, "Toko")
    await asyncio.gather(*(numbers.rename(account, device.key, "Kasir") for _ in range(4)))
    await asyncio.gather(*(numbers.remove(account, device.key) for _ in range(4)), return_exceptions=True)
    assert [one["change"] for _, one in await changes(harness)] == ["added", "renamed", "removed"]


async def test_webhooks_pass_over_it(harness: OutboxHarness) -> None:
    account = harness.number.account_id

    def listen(connection: sa.Connection) -> None:
        sealing, allowed = Sealing(bytes(32)), Allowed.parse("")
        endpoints.add(
            connection, sealing, account, "https://example.com/", allowed=allowed, now=1.0, events=WEBHOOK_EVENTS
        )

    await harness.database.write(listen)
    await numbers_of(harness).add_device(account, "Toko")
    assert await harness.database.write(lambda c: fan_out(c, account))
    assert not await harness.database.write(lambda c: fan_out(c, account)), "the cursor has moved behind it"
    found = await harness.database.read(lambda c: c.scalar(sa.select(sa.func.count()).select_from(webhook_deliveries)))
    assert found == 0
