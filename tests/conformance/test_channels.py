"""The same messages through both channels: they arrive alike, and live the same life."""

from __future__ import annotations

import asyncio
import hashlib

import aiohttp
import pytest
import sqlalchemy as sa
from tests.conformance.conftest import NOT_ON_WHATSAPP, PERSON, Office
from tests.conformance.samples import SAMPLES, Sample

from kurir.inbox.tables import incoming
from kurir.messages.content import Text
from kurir.numbers.numbers import ChannelKind, Number
from kurir.outbox.message_rows import Draft
from kurir.reasons import sentence

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
CHANNELS: list[ChannelKind] = ["linked_device", "cloud_api"]


async def bytes_of(office: Office, name: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{office.sandbox.url}/files/{name}") as answer:
        return hashlib.sha256(await answer.read()).hexdigest()


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
async def test_a_message_arrives_as_it_was_and_is_delivered_and_read(
    office: Office, channel: ChannelKind, sample: Sample
):
    number = office.numbers[channel]
    content = sample.content(office.sandbox.url + "/files")
    last = await office.sandbox.get(f"/people/{PERSON}/inbox")
    after = last[-1]["id"] if last else 0
    draft = Draft(account_id=number.account_id, number_id=number.id, recipient=PERSON, content=content)
    (message_id,) = (await office.gateway.outbox.accept([draft])).ids

    arrived = await office.sandbox.arrival(PERSON, lambda row: row["id"] > after)
    assert {key: arrived[key] for key in sample.seen} == sample.seen
    assert arrived["channel"] == channel
    if sample.file:
        assert arrived["media"]["sha256"] == await bytes_of(office, sample.file)
        assert {key: arrived["media"][key] for key in sample.media} == sample.media

    await office.state(number, message_id, "delivered")
    await office.sandbox.post(f"/people/{PERSON}/read")
    await office.state(number, message_id, "read")
    snapshot = await office.gateway.outbox.snapshot(number.account_id, message_id)
    assert snapshot is not None
    assert (snapshot.remote_id, snapshot.attempts) == (arrived["wire_id"], 1)


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_number_without_whatsapp_ends_as_failed_with_a_reason(office: Office, channel: ChannelKind):
    number = office.numbers[channel]
    draft = Draft(account_id=number.account_id, number_id=number.id, recipient=NOT_ON_WHATSAPP, content=Text("?"))
    (message_id,) = (await office.gateway.outbox.accept([draft])).ids
    await office.state(number, message_id, "failed")
    snapshot = await office.gateway.outbox.snapshot(number.account_id, message_id)
    assert snapshot is not None
    assert snapshot.error_code
    assert snapshot.error_reason
    assert await office.sandbox.get(f"/people/{NOT_ON_WHATSAPP}/inbox") == []


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_paused_number_keeps_its_messages_and_goes_on_receiving(office: Office, channel: ChannelKind):
    number, services = office.numbers[channel], office.gateway.services
    phone = await office.sandbox.person(f"Pelanggan lain {channel}")
    if channel == "cloud_api":
        await office.sandbox.post(f"/people/{phone}/messages", {"to": number.phone, "text": "Halo"})
    await services.numbers.pause(number.account_id, number.key, "stock-taking")
    try:
        draft = Draft(account_id=number.account_id, number_id=number.id, recipient=phone, content=Text("later"))
        (message_id,) = (await office.gateway.outbox.accept([draft])).ids
        number = await services.numbers.get(number.account_id, number.key)
        written = f"are you open? {channel}"
        await office.sandbox.post(f"/people/{phone}/messages", {"to": number.phone, "text": written})
        await came_in(office, number, written)
        paused = await services.numbers.get(number.account_id, number.key)
        live = services.devices.live(paused)
        assert (live.state, sentence(live.reason, "en")) == ("paused", "stock-taking")
        assert office.gateway.linked_devices.ready(paused) or channel == "cloud_api"
        waiting = await services.message_actions.waits_for(number.account_id, message_id)
        assert (waiting.cause, sentence(waiting.reason, "en")) == ("paused", "stock-taking")
        snapshot = await office.gateway.outbox.snapshot(number.account_id, message_id)
        assert snapshot is not None
        assert (snapshot.state, snapshot.attempts) == ("queued", 0)
    finally:
        await services.numbers.resume(number.account_id, number.key)
    office.gateway.dispatcher.wake(number.account_id, number.id)  # else it notices within half a minute
    await office.state(number, message_id, "delivered")
    assert services.devices.live(await services.numbers.get(number.account_id, number.key)).state == "connected"


async def came_in(office: Office, number: Number, text: str) -> None:
    """Waits until the number has received this text."""
    found = sa.select(incoming.c.id).where(incoming.c.number_id == number.id, incoming.c.text == text)
    async with asyncio.timeout(20):
        while await office.gateway.database.read(lambda c: c.scalar(found)) is None:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("channel", CHANNELS)
async def test_many_messages_to_one_person_arrive_in_the_order_of_acceptance(office: Office, channel: ChannelKind):
    number = office.numbers[channel]
    phone = await office.sandbox.person(f"Pelanggan {channel}")
    if channel == "cloud_api":
        await office.sandbox.post(f"/people/{phone}/messages", {"to": number.phone, "text": "Halo"})
    texts = [f"#{channel}-{i:03}" for i in range(30)]
    drafts = [
        Draft(account_id=number.account_id, number_id=number.id, recipient=phone, content=Text(text)) for text in texts
    ]
    await office.gateway.outbox.accept(drafts)
    await office.sandbox.arrival(phone, lambda row: row["text"] == texts[-1], 40)
    assert [row["text"] for row in await office.sandbox.get(f"/people/{phone}/inbox")] == texts
