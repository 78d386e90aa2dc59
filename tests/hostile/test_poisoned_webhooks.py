"""Webhooks that cannot be written, recorded or read are quarantined, and everything else goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.harness.gateway import Harness, open_harness, quarantined
from tests.harness.webhooks import WebhookHarness, delivering, eventually, open_webhook_harness, receiving
from tests.hostile.poison import accept, entries, state, until

from kurir.kit.url_rules import Allowed
from kurir.outbox import status_events
from kurir.reasons import Reason
from kurir.webhooks import deliveries, endpoints
from kurir.webhooks.tables import webhook_endpoints


@pytest.fixture
async def harness(tmp_path: Path, database_url: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database_url) as opened:
        yield opened


async def test_a_state_is_recorded_even_if_nobody_can_be_notified_of_it(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = harness.ours.account
    await harness.gateway.database.write(
        lambda c: endpoints.add(
            c,
            harness.gateway.sealing,
            account.id,
            "https://receiver.test/hook",
            allowed=Allowed(),
            events=["message_status"],
            now=1.0,
        )
    )
    monkeypatch.setattr(status_events, "_status", lambda *_: 1 / 0)
    message_id = await accept(harness)

    async def sent() -> bool:
        return await state(harness, message_id) == "sent"

    await until(sent, "the message was not sent")
    assert {entry.queue for entry in await entries(harness)} == {"webhook"}


@pytest.fixture(params=["sqlite", "postgres"])
async def webhooks(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[WebhookHarness]:
    if request.param == "sqlite":
        async with open_webhook_harness(tmp_path / "kurir.db") as opened:
            yield opened
        return
    server = request.getfixturevalue("postgres")
    url = server.new_database("kurir")
    async with open_webhook_harness(url) as opened:
        yield opened
    server.drop(url)


async def test_a_delivery_that_cannot_be_recorded_is_quarantined_and_the_rest_goes_on(
    webhooks: WebhookHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = deliveries.record

    def breaks(connection: sa.Connection, delivery: Any, *arguments: Any, **named: Any) -> Reason:
        if "poison" in delivery.body:
            raise RuntimeError("unforeseen")
        return original(connection, delivery, *arguments, **named)

    monkeypatch.setattr(deliveries, "record", breaks)
    async with receiving() as receiver, delivering(webhooks.database, webhooks.time):
        endpoint, _ = await webhooks.endpoint(receiver.url())
        await webhooks.comes_in(text="poison")
        await webhooks.comes_in(text="behind it")
        await webhooks.comes_in(chat="628222", text="elsewhere")
        await eventually(lambda: delivered_and_failed(webhooks, endpoint), (2, 1))
        assert {webhook_call.text for webhook_call in receiver.at()} >= {"behind it", "elsewhere"}
    (entry,) = await webhooks.database.read(quarantined)
    assert entry.queue == "webhook"
    assert entry.reference.startswith("delivery:")


async def delivered_and_failed(webhooks: WebhookHarness, endpoint: Any) -> tuple[int, int]:
    states = await webhooks.states(endpoint)
    return states["delivered"], states["failed"]


async def test_an_endpoint_that_cannot_be_read_delays_no_other(webhooks: WebhookHarness) -> None:
    async with receiving() as receiver:
        bad, _ = await webhooks.endpoint(receiver.url("/bad"))
        good, _ = await webhooks.endpoint(receiver.url("/good"))
        spoilt = webhook_endpoints.update().where(webhook_endpoints.c.id == bad.id).values(secret_sealed="damaged")
        await webhooks.database.write(lambda c: c.execute(spoilt) and None)
        for i in range(3):
            await webhooks.comes_in(text=f"t{i}")
        async with delivering(webhooks.database, webhooks.time):
            assert [webhook_call.text for webhook_call in await receiver.until(3, "/good")] == ["t0", "t1", "t2"]
            await eventually(lambda: delivered_and_failed(webhooks, good), (3, 0))
            await eventually(lambda: delivered_and_failed(webhooks, bad), (0, 3), timeout=60.0)
        assert receiver.at("/bad") == []
