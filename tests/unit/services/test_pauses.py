"""A pause is a property of the number, of either channel: it outlives whatever becomes of the connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.harness.channels import FakeChannel
from tests.harness.gateway import PHONE, Harness, open_harness
from tests.sentences import english

from kurir.events import read
from kurir.messages.channel_reports import ConnectionChanged, Halted, NumberState
from kurir.messages.content import Text
from kurir.numbers import numbers, status
from kurir.numbers.numbers import ChannelKind, Number, shown_state
from kurir.outbox.message_rows import Draft
from kurir.reasons import NOTHING, as_written

CHANNELS: list[ChannelKind] = ["linked_device", "cloud_api"]


@pytest.fixture
async def harness(tmp_path: Path, database_url: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database_url) as opened:
        yield opened


def of(harness: Harness, channel: ChannelKind) -> tuple[Number, FakeChannel]:
    if channel == "linked_device":
        return harness.ours.device, harness.devices
    return harness.ours.official, harness.cloud


async def now(harness: Harness, number: Number) -> Number:
    return await harness.gateway.services.numbers.get(number.account_id, number.key)


async def becomes(harness: Harness, number: Number, state: str) -> None:
    changed = ConnectionChanged(number.account_id, number.id, state, as_written(f"it is {state}"), 1.0)
    await harness.gateway.database.write(lambda c: status.change(c, changed, 1.0))


async def published(harness: Harness, number: Number) -> list[str]:
    """The states that readers and webhooks got."""
    page = await harness.gateway.database.read(lambda c: read.after(c, number.account_id, 0, types=["device_status"]))
    return [json.loads(event.body)["data"]["state"] for event in page.events if event.number_id == number.id]


async def accept(harness: Harness, number: Number, texts: Sequence[str]) -> tuple[int, ...]:
    drafts = [
        Draft(account_id=number.account_id, number_id=number.id, recipient=PHONE, content=Text(text)) for text in texts
    ]
    return tuple((await harness.gateway.outbox.accept(drafts)).ids)


@pytest.mark.parametrize("channel", CHANNELS)
async def test_nothing_is_sent_until_it_is_resumed(harness: Harness, channel: ChannelKind) -> None:
    number, wire = of(harness, channel)
    services = harness.gateway.services
    await services.numbers.pause(number.account_id, number.key, "closed")
    turns = harness.signals.count["lane_turned"]
    ids = await accept(harness, number, ["a", "b"])
    await harness.signals.reached("lane_turned", turns + 1)
    harness.gateway.dispatcher.wake(number.account_id, number.id)
    await harness.signals.reached("lane_turned", turns + 2)
    assert wire.sent == []
    waiting = await services.message_actions.waits_for(number.account_id, ids[0])
    assert (waiting.cause, english(waiting.reason)) == ("paused", "closed")
    await services.numbers.resume(number.account_id, number.key)
    harness.gateway.dispatcher.wake(number.account_id, number.id)
    assert [one.message_id for one in await harness.until_sent(2, channel=wire)] == list(ids)


@pytest.mark.parametrize("channel", CHANNELS)
async def test_what_becomes_of_the_connection_ends_no_pause(harness: Harness, channel: ChannelKind) -> None:
    number, wire = of(harness, channel)
    await becomes(harness, number, "connected")
    begin = len(await published(harness, number))
    await harness.gateway.services.numbers.pause(number.account_id, number.key, "closed")
    states: list[NumberState] = ["disconnected", "connecting", "connected"]
    for state in states:
        await becomes(harness, number, state)
        found = await now(harness, number)
        assert (found.paused, found.state, english(found.pause_reason)) == (True, state, "closed")
    turns = harness.signals.count["lane_turned"]
    await accept(harness, number, ["a"])
    await harness.signals.reached("lane_turned", turns + 1)
    assert wire.sent == []
    await harness.gateway.services.numbers.resume(number.account_id, number.key)
    # nobody who follows the states takes a paused number for one that sends
    assert (await published(harness, number))[begin:] == ["paused", "disconnected", "connecting", "paused", "connected"]


@pytest.mark.parametrize(
    ("state", "shown"), [("connected", "paused"), ("logged_out", "logged_out"), ("disconnected", "disconnected")]
)
async def test_the_state_that_people_see(harness: Harness, state: NumberState, shown: str) -> None:
    """A pause is shown in place of `connected`; what else is wrong stays visible, and is published at the end."""
    number = harness.ours.device
    await becomes(harness, number, "pairing")
    await becomes(harness, number, state)
    await harness.gateway.services.numbers.pause(number.account_id, number.key, "closed")
    found = await now(harness, number)
    assert shown_state(found, found.state, found.state_reason)[0] == shown
    await harness.gateway.services.numbers.resume(number.account_id, number.key)
    assert (await published(harness, number))[-2:] == ["paused", state]
    assert (await now(harness, number)).state == state


async def test_a_restricted_number_that_is_paused_is_shown_as_paused(harness: Harness) -> None:
    number = harness.ours.device
    await becomes(harness, number, "connected")
    restriction = numbers.Restriction(harness.gateway.clock() + 600, 600.0)
    await harness.gateway.database.write(
        lambda c: numbers.set_restriction(c, number.account_id, number.id, restriction)
    )
    await harness.gateway.services.numbers.pause(number.account_id, number.key)
    found = await now(harness, number)
    assert shown_state(found, found.state, NOTHING)[0] == "paused"
    resumed = await harness.gateway.services.numbers.resume(number.account_id, number.key)
    assert shown_state(resumed, resumed.state, NOTHING)[0] == "restricted"


async def test_what_meta_reports_of_a_paused_number_is_shown_and_published_once(harness: Harness) -> None:
    """By a send that was in flight, and by a callback."""
    number = harness.ours.official
    await harness.gateway.services.numbers.pause(number.account_id, number.key, "closed")
    since = (await now(harness, number)).paused_at
    await becomes(harness, number, "paused")
    found = await now(harness, number)
    assert (english(found.pause_reason), found.paused_at, found.state) == ("it is paused", since, "connected")
    assert (await published(harness, number)).count("paused") == 1


async def test_a_send_that_meta_refuses_for_the_whole_number_pauses_it(harness: Harness) -> None:
    number = harness.ours.official
    harness.cloud.outcome = lambda _: Halted("190", as_written("the token is not accepted"))
    ids = await accept(harness, number, ["a", "b"])
    await harness.until_sent(1, channel=harness.cloud)
    async with asyncio.timeout(10):
        while not (found := await now(harness, number)).paused:
            await asyncio.sleep(0.01)
    assert english(found.pause_reason) == "the token is not accepted"
    harness.cloud.outcome = type(harness.cloud)().outcome
    await harness.gateway.services.numbers.set_token(number.account_id, number.key, "new")
    harness.gateway.dispatcher.wake(number.account_id, number.id)
    sent = await harness.until_sent(3, channel=harness.cloud)
    assert [one.message_id for one in sent] == [ids[0], *ids]


async def test_both_kinds_by_the_operator_api(harness: Harness) -> None:
    token = (harness.gateway.settings.data_dir / "operator.token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}

    async def ask(path: str, body: Any = None) -> Any:
        return (await harness.client.post(f"/api/v1/numbers/{path}", json=body, headers=headers)).json()

    for number in (harness.ours.device, harness.ours.official):
        await becomes(harness, number, "connected")
        paused = await ask(f"{number.key}/pause", {"reason": "closed"})
        assert (paused["pause_reason"], paused["paused_at"] is not None) == ("closed", True)
        assert (await ask(f"{number.key}/pause"))["error"]["code"] == "not_possible"
        resumed = await ask(f"{number.key}/resume")
        assert (resumed["paused_at"], resumed["pause_reason"]) == (None, "")
        assert "only a paused number" in (await ask(f"{number.key}/resume"))["error"]["message"]
