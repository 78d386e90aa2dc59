"""Endpoints: sealed secrets, addresses that are refused, what disables and what removes them."""

from __future__ import annotations

import functools
import re

import pytest
import sqlalchemy as sa
from tests.harness.webhooks import SEALING, WebhookHarness

from kurir.kit.url_rules import Allowed, UrlRefused
from kurir.reasons import NOTHING, Reason, read, sentence, stored
from kurir.reasons.webhooks import RECEIVER_GONE
from kurir.webhooks import deliveries, endpoints
from kurir.webhooks.endpoints import Endpoint, EndpointError
from kurir.webhooks.fan_out import fan_out
from kurir.webhooks.retry_schedule import DEAD_AFTER, Answered
from kurir.webhooks.tables import webhook_deliveries, webhook_endpoints

DAY = 86_400.0


async def test_gone_disables_and_ends_what_waits(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    await harness.comes_in("628111")
    await harness.comes_in("628111")
    await harness.comes_in("628222")
    delivery = await harness.claim(endpoint)
    assert delivery is not None
    assert await harness.record(delivery, Answered(410)) == RECEIVER_GONE()
    assert await harness.states() == {"failed": 3}
    await harness.comes_in("628333")
    assert await harness.claim(endpoint) is None
    assert (await harness.rows())[1] == 3

    account_id = harness.harness.number.account_id
    found = await harness.database.read(lambda c: endpoints.by_key(c, account_id, endpoint.key))
    assert found is not None
    assert (found.state, read(found.state_reason)) == ("disabled", RECEIVER_GONE())


async def test_a_backlog_is_caught_up_in_steps_before_the_endpoint_is_disabled(
    harness: WebhookHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of days without a deliverer: one transaction takes a bounded part of it, and nothing of it is left out."""
    monkeypatch.setattr(deliveries, "fan_out", functools.partial(fan_out, most=2))
    endpoint, _ = await harness.endpoint()
    await harness.comes_in("628111")
    delivery = await harness.claim(endpoint)
    assert delivery is not None
    for n in range(2 * deliveries._STEPS + 1):
        await harness.comes_in(f"62822{n}")
    made = sa.select(sa.func.count()).select_from(webhook_deliveries)
    assert await harness.record(delivery, Answered(410)) == NOTHING
    assert await harness.database.read(lambda c: c.scalar(made)) == 1 + 2 * deliveries._STEPS
    again = await harness.database.write(lambda c: deliveries.claim(c, SEALING, endpoint.id, harness.time()))
    assert again is not None
    assert await harness.record(again, Answered(410)) == RECEIVER_GONE()
    assert await harness.states() == {"failed": 2 + 2 * deliveries._STEPS}


async def test_days_of_nothing_but_failures_disable_and_one_success_does_not(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    await harness.comes_in()
    delivery = await harness.claim(endpoint)
    assert delivery is not None
    assert not await harness.record(delivery)

    async def fail() -> Reason:
        await harness.comes_in(f"6281{harness.time.now:.0f}")
        delivery = await harness.claim(endpoint)
        assert delivery is not None
        return await harness.record(delivery, Answered(500))

    harness.time.now += DAY
    assert not await fail()
    harness.time.now += DEAD_AFTER - DAY
    await harness.comes_in("628999")
    good = [p for p in await harness.claim_all(endpoint) if p.chat == "628999"]
    assert not await harness.record(good[0])
    harness.time.now += DAY
    assert not await fail()
    harness.time.now += DEAD_AFTER - 1
    assert not await fail()
    harness.time.now += 1
    assert "5 days" in sentence(await fail(), "en")
    # enabled again, it has another chance
    await harness.database.write(lambda c: endpoints.enable(c, endpoint.account_id, endpoint.id, harness.time()))
    assert not await fail()


async def test_a_removed_endpoint_is_forgotten_with_its_secret(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    await harness.comes_in()
    await harness.fan_out()

    def work(connection: sa.Connection) -> None:
        endpoints.remove(connection, endpoint.account_id, endpoint.id, harness.time())
        deliveries.end_open(connection, endpoint.id, "canceled", harness.time())

    await harness.database.write(work)
    await harness.comes_in()
    assert await harness.states() == {"canceled": 1}
    assert await harness.claim(endpoint) is None
    row = await harness.database.read(lambda c: c.execute(sa.select(webhook_endpoints)).one())
    assert row.secret_sealed == row.old_secret_sealed == ""


async def test_secrets_are_sealed_and_two_live_while_rotating(harness: WebhookHarness) -> None:
    endpoint, first = await harness.endpoint()
    row = await harness.database.read(lambda c: c.execute(sa.select(webhook_endpoints)).one())
    assert first not in str(row)
    second = await harness.database.write(lambda c: endpoints.rotate(c, SEALING, endpoint, harness.time()))

    async def live() -> list[str]:
        return await harness.database.read(
            lambda c: endpoints.secrets(c, SEALING, endpoint.account_id, endpoint.id, harness.time())
        )

    assert await live() == [second, first]
    harness.time.now += endpoints.OVERLAP
    assert await live() == [second]
    third = await harness.database.write(lambda c: endpoints.rotate(c, SEALING, endpoint, harness.time()))
    assert await live() == [third, second]


@pytest.mark.parametrize("url", ["http://127.0.0.1/x", "http://10.0.0.8/", "ftp://example.com/", "x", "http://a@b.c/"])
async def test_addresses_that_are_never_posted_to(harness: WebhookHarness, url: str) -> None:
    with pytest.raises(UrlRefused):
        await harness.database.write(
            lambda c: endpoints.add(c, SEALING, harness.harness.number.account_id, url, allowed=Allowed(), now=1.0)
        )
    assert await harness.database.read(lambda c: endpoints.of_account(c, harness.harness.number.account_id)) == []


@pytest.mark.parametrize("events", [["incoming_chat", "nonsense"], []])
async def test_only_known_events(harness: WebhookHarness, events: list[str]) -> None:
    with pytest.raises(EndpointError, match="expected") as refusal:
        await harness.endpoint(events=events)
    assert refusal.value.field == "event"


async def test_an_endpoint_is_what_was_asked_for_and_the_list_is_the_accounts_own(harness: WebhookHarness) -> None:
    account_id, theirs = harness.harness.number.account_id, await harness.tenant()
    plain, _ = await harness.endpoint("http://127.0.0.1:9/a")
    events = ["message_status", "incoming_chat", "message_status"]
    narrow, _ = await harness.endpoint("http://127.0.0.1:9/b", events=events, number_id=harness.harness.other.id)
    foreign, _ = await harness.endpoint(account_id=theirs.account_id)
    removed, _ = await harness.endpoint()
    assert plain == Endpoint(
        plain.id, account_id, plain.key, "http://127.0.0.1:9/a", None, ("incoming_chat",), "active", "", harness.time()
    )
    assert (narrow.events, narrow.number_id) == (("message_status", "incoming_chat"), harness.harness.other.id)
    keys = {one.key for one in (plain, narrow, foreign, removed)}
    assert len(keys) == 4
    assert all(re.fullmatch(r"ep_\w{16}", key) for key in keys)
    await harness.database.write(lambda c: endpoints.remove(c, account_id, removed.id, harness.time()))

    def seen(connection: sa.Connection) -> list[object]:
        return [
            endpoints.of_account(connection, account_id),
            endpoints.by_key(connection, account_id, narrow.key),
            endpoints.by_key(connection, account_id, foreign.key),
            endpoints.by_key(connection, account_id, removed.key),
        ]

    assert await harness.database.read(seen) == [[plain, narrow], narrow, None, None]


async def test_what_is_changed_of_an_endpoint_is_changed_of_no_other(harness: WebhookHarness) -> None:
    account_id, now = harness.harness.number.account_id, harness.time()
    changed, _ = await harness.endpoint()
    await harness.endpoint()
    changes = (
        lambda c, account: endpoints.disable(c, account, changed.id, RECEIVER_GONE()),
        lambda c, account: endpoints.enable(c, account, changed.id, now + 5),
        lambda c, account: endpoints.remove(c, account, changed.id, now + 6),
    )

    async def rows() -> list[dict[str, object]]:
        statement = sa.select(webhook_endpoints).order_by(webhook_endpoints.c.id)
        return await harness.database.read(lambda c: [dict(row._mapping) for row in c.execute(statement)])

    first, other = await rows()
    expected = [
        {"state": "disabled", "state_reason": stored(RECEIVER_GONE())},
        {"state": "active", "state_reason": "", "active_since": now + 5},
        {
            "state": "disabled",
            "state_reason": "removed",
            "removed_at": now + 6,
            "secret_sealed": "",
            "old_secret_sealed": "",
        },
    ]
    for change, then in zip(changes, expected, strict=True):
        await harness.database.write(lambda c, change=change: change(c, account_id + 1))
        assert await rows() == [first, other]
        await harness.database.write(lambda c, change=change: change(c, account_id))
        first |= then
        assert await rows() == [first, other]


async def test_an_address_shows_no_secret_and_is_none_while_the_endpoint_is_off(harness: WebhookHarness) -> None:
    endpoint, secret = await harness.endpoint("http://127.0.0.1:9/a")

    async def address() -> endpoints.Address | None:
        return await harness.database.read(lambda c: endpoints.address(c, SEALING, endpoint.id, harness.time()))

    found = await address()
    assert found == endpoints.Address(endpoint.key, "http://127.0.0.1:9/a", [secret])
    assert repr(found) == f"Address({endpoint.key})"
    reason = RECEIVER_GONE()
    await harness.database.write(lambda c: endpoints.disable(c, endpoint.account_id, endpoint.id, reason))
    assert await address() is None


async def test_a_removal_erases_the_secret_of_before_a_rotation_too(harness: WebhookHarness) -> None:
    endpoint, _ = await harness.endpoint()
    await harness.database.write(lambda c: endpoints.rotate(c, SEALING, endpoint, harness.time()))
    await harness.database.write(lambda c: endpoints.remove(c, endpoint.account_id, endpoint.id, harness.time()))
    row = await harness.database.read(lambda c: c.execute(sa.select(webhook_endpoints)).one())
    assert (row.secret_sealed, row.old_secret_sealed) == ("", "")


async def test_an_unknown_event_is_named_beside_those_that_there_are(harness: WebhookHarness) -> None:
    with pytest.raises(EndpointError) as refusal:
        await harness.endpoint(events=["nonsense"])
    assert "'nonsense'" in sentence(refusal.value.reason, "en")
    assert "incoming_chat, " in sentence(refusal.value.reason, "en")


async def test_the_success_of_one_endpoint_keeps_no_other_alive(harness: WebhookHarness) -> None:
    dead, _ = await harness.endpoint()
    alive, _ = await harness.endpoint()

    async def tried(endpoint: Endpoint, answer: Answered) -> Reason:
        await harness.comes_in(f"6281{harness.time.now:.0f}{endpoint.id}")
        delivery = await harness.claim(endpoint)
        assert delivery is not None
        return await harness.record(delivery, answer)

    assert await tried(dead, Answered(500)) == NOTHING
    harness.time.now += DEAD_AFTER / 2
    assert await tried(alive, Answered(200)) == NOTHING
    harness.time.now += DEAD_AFTER / 2
    assert "5 days" in sentence(await tried(dead, Answered(500)), "en")
