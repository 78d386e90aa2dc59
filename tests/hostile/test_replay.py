"""Every queue of the quarantine: what came from it can be replayed once what was wrong is right, or the answer says
truthfully why not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from tests.harness.gateway import PHONE, Harness, open_harness
from tests.hostile.callbacks import callback, change, entries, message, post, stored
from tests.sentences import english

from kurir.channels.cloud_api import callbacks as reading
from kurir.channels.cloud_api.templates.calls import MetaTemplate, UnreadTemplate
from kurir.channels.linked_device.channel import DeviceUnavailable
from kurir.inbox import Inbox
from kurir.inbox.tables import incoming
from kurir.kit.url_rules import Allowed
from kurir.messages.channel_reports import Event, Quarantined, Received
from kurir.messages.content import Text
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.outbox import status_events
from kurir.outbox.message_rows import encode_content
from kurir.outbox.outbox import Draft
from kurir.quarantine import quarantine
from kurir.quarantine.quarantine import QUEUES
from kurir.reasons import as_written, read
from kurir.services.errors import NotPossible
from kurir.templates import templates
from kurir.webhooks import deliveries, endpoints
from kurir.webhooks.fan_out import fan_out
from kurir.webhooks.tables import webhook_deliveries


@pytest.fixture
async def harness(tmp_path: Path, database_url: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database_url) as opened:
        yield opened


async def put(harness: Harness, entry: Quarantined) -> None:
    await harness.gateway.inbox.take([(entry, "")])


async def until(condition: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.01)


def broken_inbox(patch: pytest.MonkeyPatch) -> None:
    """Nothing but entries of the quarantine can be stored."""
    original = Inbox._apply

    def apply(inbox: Inbox, connection: sa.Connection, event: Event, now: float) -> Any:
        if isinstance(event, Quarantined):
            return original(inbox, connection, event, now)
        raise ValueError("unforeseen")

    patch.setattr(Inbox, "_apply", apply)


# -- one entry of each queue: quarantined, replayed, and what must be true then ----------------------------------------


async def from_inbox(harness: Harness) -> Callable[[], Awaitable[bool]]:
    number = harness.ours.device
    event = Received(number.account_id, number.id, "I1", PHONE, PHONE, "Sari", 1.0, "text", "halo")
    with pytest.MonkeyPatch.context() as patch:
        broken_inbox(patch)
        await harness.gateway.inbox.take_each([(event, "")])

    async def there() -> bool:
        return await stored(harness) == {"I1"}

    return there


async def from_callback(harness: Harness) -> Callable[[], Awaitable[bool]]:
    """An event that could not be stored, in the payload of the inbox."""
    with pytest.MonkeyPatch.context() as patch:
        broken_inbox(patch)
        raw = json.dumps(callback(harness, change(harness, messages=[message("wamid.c")]))).encode()
        assert await post(harness, raw) == 200

    async def there() -> bool:
        return await stored(harness) == {"wamid.c"}

    return there


async def from_journal(harness: Harness) -> Callable[[], Awaitable[bool]]:
    number, seen = harness.ours.device, list[tuple[int, bytes]]()

    async def replay_received(given: Number, payload: bytes) -> None:
        seen.append((given.id, payload))

    harness.devices.replay_received = replay_received  # type: ignore[attr-defined]
    await put(harness, Quarantined(number.account_id, number.id, "journal", "J1", "its reader ended", b"protobuf"))

    async def there() -> bool:
        return seen == [(number.id, b"protobuf")]

    return there


async def from_outbox(harness: Harness) -> Callable[[], Awaitable[bool]]:
    number, gateway = harness.ours.device, harness.gateway
    harness.devices.connected = False
    draft = Draft(account_id=number.account_id, number_id=number.id, recipient=PHONE, content=Text("halo"))
    message_id = (await gateway.outbox.accept([draft])).ids[0]
    await content_of(harness, message_id, "damaged")
    harness.devices.connected = True
    gateway.dispatcher.wake(number.account_id, number.id)

    async def quarantined() -> bool:
        return len(await entries(harness)) == 1

    await until(quarantined)
    await content_of(harness, message_id, encode_content(gateway.sealing, message_id, Text("halo"), False))

    async def there() -> bool:
        found = await gateway.outbox.snapshot(number.account_id, message_id)
        return found is not None and found.state == "sent"

    return there


async def content_of(harness: Harness, message_id: int, content: str) -> None:
    statement = sa.text("UPDATE messages SET content = :content WHERE id = :id")
    await harness.gateway.database.write(
        lambda c: c.execute(statement, {"content": content, "id": message_id}) and None
    )


async def an_endpoint(harness: Harness) -> int:
    account, gateway = harness.ours.account, harness.gateway
    made = await gateway.database.write(
        lambda c: endpoints.add(
            c, gateway.sealing, account.id, "https://receiver.test/hook", allowed=Allowed(),
            events=["message_status", "incoming_chat"], now=1.0,
        )
    )  # fmt: skip
    return made[0].id


async def from_webhook(harness: Harness) -> Callable[[], Awaitable[bool]]:
    endpoint, number = await an_endpoint(harness), harness.ours.device
    event = Received(number.account_id, number.id, "W1", PHONE, PHONE, "Sari", 1.0, "text", "halo")
    await harness.gateway.inbox.take([(event, "")])
    database = harness.gateway.database
    await database.write(lambda c: fan_out(c, number.account_id))
    delivery = await database.read(lambda c: c.execute(sa.select(webhook_deliveries.c.id)).scalar_one())
    assert await database.write(lambda c: deliveries.quarantine_delivery(c, endpoint, delivery, "it broke", 2.0))

    async def there() -> bool:
        return await database.read(lambda c: c.execute(sa.select(webhook_deliveries.c.state)).scalar_one()) in {
            "waiting",
            "pending",
        }

    return there


async def from_template(harness: Harness) -> Callable[[], Awaitable[bool]]:
    number = harness.ours.official
    unread = UnreadTemplate("77", b"{}", "a shape that is not known")
    await harness.gateway.database.write(lambda c: templates.adopt(c, number, [unread], 1.0))
    body = {"type": "BODY", "text": "Halo"}
    harness.cloud.templates.listed.append(MetaTemplate("77", "promo", "id", "APPROVED", "UTILITY", [body]))

    async def there() -> bool:
        return await harness.gateway.database.read(
            lambda c: templates.by_meta_id(c, number.account_id, number.id, "77") is not None
        )

    return there


QUARANTINED = {
    "journal": from_journal,
    "inbox": from_inbox,
    "callback": from_callback,
    "outbox": from_outbox,
    "webhook": from_webhook,
    "template": from_template,
}


def test_every_queue_has_its_replay_here() -> None:
    assert set(QUARANTINED) == set(QUEUES)


@pytest.mark.parametrize("queue", QUEUES)
async def test_what_was_quarantined_can_be_replayed(harness: Harness, queue: str) -> None:
    there = await QUARANTINED[queue](harness)
    (entry,) = await entries(harness)
    assert entry.queue == queue
    assert not await there()
    assert (await harness.gateway.services.replays.replay_of_any(entry.id)).id == entry.id
    await until(there)
    assert await entries(harness) == []


# -- the other forms of what Meta signed -------------------------------------------------------------------------------


def stranger(name: str, phone_number_id: str = "999") -> dict[str, Any]:
    metadata = {"phone_number_id": phone_number_id}
    return {"field": "messages", "value": {"metadata": metadata, "messages": [message(name)]}}


async def test_a_change_about_an_unknown_number_is_replayed_once_the_number_is_set_up(harness: Harness) -> None:
    assert await post(harness, json.dumps(callback(harness, stranger("wamid.x"))).encode()) == 200
    (entry,) = await entries(harness)
    with pytest.raises(NotPossible, match="id 999"):
        await harness.gateway.services.replays.replay_of_any(entry.id)
    await a_number(harness, harness.theirs.account.id)
    with pytest.raises(NotPossible, match="id 999"):  # another account's number does not get it
        await harness.gateway.services.replays.replay_of_any(entry.id)
    assert await stored(harness) == set()
    number = await a_number(harness, entry.account_id)
    await harness.gateway.services.replays.replay_of_any(entry.id)
    rows = await harness.gateway.database.read(lambda c: c.execute(sa.select(incoming.c.number_id)).all())
    assert [row.number_id for row in rows] == [number.id]
    assert await entries(harness) == []


async def a_number(harness: Harness, account_id: int) -> Number:
    return await harness.gateway.database.write(
        lambda c: numbers.add_official(
            c, harness.gateway.sealing, account_id, phone="628999", phone_number_id="999", waba_id="1", app_id="1",
            access_token="a", app_secret="another", verify_token="v",
        )
    )  # fmt: skip


async def test_a_change_that_could_not_be_read_is_replayed_by_a_version_that_can(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_received", lambda *_, **__: 1 / 0)
    raw = json.dumps(callback(harness, change(harness, messages=[message("wamid.r")]))).encode()
    assert await post(harness, raw) == 200
    (entry,) = await entries(harness)
    with pytest.raises(NotPossible, match="still cannot be read"):
        await harness.gateway.services.replays.replay_of_any(entry.id)
    assert [one.id for one in await entries(harness)] == [entry.id]
    monkeypatch.undo()
    await harness.gateway.services.replays.replay_of_any(entry.id)
    assert (await stored(harness), await entries(harness)) == ({"wamid.r"}, [])


async def test_a_whole_body_is_replayed_by_a_version_that_can_read_it(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = json.dumps(callback(harness, change(harness, messages=[message("wamid.b")]))).encode()
    with monkeypatch.context() as patch:
        patch.setattr("kurir.channels.cloud_api.callback_parts.changes_of", lambda _: None)
        assert await post(harness, raw) == 200
    entry = next(one for one in await entries(harness) if one.account_id == harness.ours.account.id)
    await harness.gateway.services.replays.replay_of_any(entry.id)
    assert await stored(harness) == {"wamid.b"}
    assert await post(harness, b"[]") == 200
    unread = next(one for one in await entries(harness) if one.payload == b"[]")
    with pytest.raises(NotPossible, match="still not a JSON object"):
        await harness.gateway.services.replays.replay_of_any(unread.id)


@pytest.mark.parametrize(
    "payload", [b"", b"\xff" * 9, b"{}", b"[1]", b'{"field":1}', b"[" * 100_000, msgspec.msgpack.encode([])]
)
@pytest.mark.parametrize("reference", ["change:x", "body:x", "628/wamid.x", ""])
async def test_a_damaged_entry_is_a_clear_answer(harness: Harness, payload: bytes, reference: str) -> None:
    number = harness.ours.official
    await put(harness, Quarantined(number.account_id, number.id, "callback", reference, "odd", payload))
    (entry,) = await entries(harness)
    with pytest.raises(NotPossible):
        await harness.gateway.services.replays.replay_of_any(entry.id)
    assert [one.id for one in await entries(harness)] == [entry.id]


async def test_an_event_is_stored_for_no_other_account_than_the_entry_s(harness: Harness) -> None:
    number = harness.theirs.device
    event = Received(number.account_id, number.id, "X1", PHONE, PHONE, "Sari", 1.0, "text", "halo")
    payload = msgspec.msgpack.encode(event)
    for queue in ("callback", "inbox"):
        await put(harness, Quarantined(harness.ours.account.id, harness.ours.device.id, queue, "x", "odd", payload))
    for entry in await entries(harness):
        with pytest.raises(NotPossible, match="another account"):
            await harness.gateway.services.replays.replay_of_any(entry.id)
    assert await stored(harness) == set()


# -- what cannot be replayed -------------------------------------------------------------------------------------------


async def test_a_template_stays_quarantined_while_meta_s_list_cannot_be_had(harness: Harness) -> None:
    await from_template(harness)
    (entry,) = await entries(harness)
    harness.cloud.templates.listed = None  # type: ignore[assignment]
    with pytest.raises(NotPossible, match="list of templates"):
        await harness.gateway.services.replays.replay_of_any(entry.id)
    harness.cloud.templates.listed = [UnreadTemplate("77", b"{}", "still")]  # type: ignore[list-item]
    await harness.gateway.services.replays.replay_of_any(entry.id)
    assert [(one.queue, one.reason) for one in await entries(harness)] == [("template", "still")]


async def test_a_device_that_cannot_read_leaves_the_entry(harness: Harness) -> None:
    async def replay_received(*_: Any) -> None:
        raise DeviceUnavailable(as_written("it is away"))

    await from_journal(harness)
    harness.devices.replay_received = replay_received  # type: ignore[attr-defined]
    (entry,) = await entries(harness)
    with pytest.raises(NotPossible, match="it is away"):
        await harness.gateway.services.replays.replay_of_any(entry.id)
    assert len(await entries(harness)) == 1


async def test_an_event_that_could_not_be_written_says_what_it_was_and_that_it_cannot_be_replayed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await an_endpoint(harness)
    monkeypatch.setattr(status_events, "_status", lambda *_: 1 / 0)
    number = harness.ours.device
    await harness.gateway.outbox.accept(
        [Draft(account_id=number.account_id, number_id=number.id, recipient=PHONE, content=Text("halo"))]
    )

    async def quarantined() -> bool:
        return bool(await entries(harness))

    await until(quarantined)
    entry = (await entries(harness))[0]
    kept = json.loads(entry.payload)
    assert (kept["type"], kept["chat"], kept["number"]) == ("message_status", PHONE, number.id)
    assert "cannot be replayed" in entry.reason
    with pytest.raises(NotPossible, match="cannot be replayed"):
        await harness.gateway.services.replays.replay_of_any(entry.id)


# -- how much is kept --------------------------------------------------------------------------------------------------


async def test_strangers_cannot_fill_the_disk_through_the_quarantine(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MOST", 5)
    ours, theirs = harness.ours.official, harness.theirs.official
    await put(harness, Quarantined(theirs.account_id, theirs.id, "callback", "theirs", "odd", b"x"))
    for i in range(12):
        await put(harness, Quarantined(ours.account_id, ours.id, "callback", f"change:{i}", "odd", b"x"))
    found = await entries(harness)
    kept = [entry.reference for entry in found if entry.account_id == ours.account_id]
    assert kept == [f"change:{i}" for i in (11, 10, 9, 8, 7)]
    assert [entry.reference for entry in found if entry.account_id == theirs.account_id] == ["theirs"]


async def test_a_payload_that_is_too_large_is_cut_and_says_so(harness: Harness) -> None:
    raw = b"[" + b" " * (quarantine.LARGEST + 500_000) + b"]"
    assert await post(harness, raw) == 200
    for entry in await entries(harness):
        assert entry.payload == raw[: quarantine.LARGEST]
        assert english(read(entry.reason)).startswith(f"cut: only the first {quarantine.LARGEST} of {len(raw)} bytes")
        with pytest.raises(NotPossible, match="too large"):
            await harness.gateway.services.replays.replay_of_any(entry.id)


async def test_a_list_reads_no_payloads(harness: Harness) -> None:
    number = harness.ours.official
    await put(harness, Quarantined(number.account_id, number.id, "callback", "change:1", "odd", b"\x00\xff" * 2_000))
    asked: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    engine = harness.gateway.database.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        [line] = await harness.gateway.database.read(quarantine.lines)
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
    assert line.size == 4_000
    [statement] = [one for one in asked if "quarantine" in one]
    assert statement.count("payload") == 1
    assert "length(quarantine.payload)" in statement
