"""What cannot be processed is set aside whole, with its reason, and everything else goes on: a test for each queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs
from tests.harness.gateway import PHONE, Harness, open_harness, set_aside
from tests.harness.webhooks import WebhookHarness, delivering, eventually, open_webhook_harness, receiving

from kurir.inbox import Inbox
from kurir.inbox.tables import incoming
from kurir.kit.log_limit import LogLimit
from kurir.kit.tokens import load_token
from kurir.kit.url_rules import Allowed
from kurir.messages.content import Text
from kurir.messages.reports import ConnectionChanged, Event, Received, Sent, SetAside, StatusChanged
from kurir.numbers.numbers import Number
from kurir.outbox import record, status_events
from kurir.outbox.outbox import Draft
from kurir.outbox.readable_rows import ReadableRows
from kurir.outbox.rows import encode_content
from kurir.outbox.tables import messages
from kurir.quarantine import quarantine
from kurir.quarantine.quarantine import Entry
from kurir.services.errors import NotFound
from kurir.store.transaction_end import at_end
from kurir.webhooks import deliveries, endpoints
from kurir.webhooks.tables import webhook_endpoints


@pytest.fixture(params=["sqlite", "postgres"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    if request.param == "sqlite":
        async with open_harness(tmp_path) as opened:
            yield opened
        return
    server = request.getfixturevalue("postgres")
    url = server.new_database("kurir")
    async with open_harness(tmp_path, database_url=url) as opened:
        yield opened
    server.drop(url)


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> None:
    try:
        async with asyncio.timeout(20):
            while not await condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what) from None


async def entries(harness: Harness) -> list[Entry]:
    return await harness.gateway.database.read(set_aside)


async def scalar(harness: Harness, statement: sa.Select[Any]) -> Any:
    return await harness.gateway.database.read(lambda c: c.execute(statement).scalar_one())


def received(harness: Harness, name: str, **changes: Any) -> Received:
    number = harness.ours.device
    event = Received(number.account_id, number.id, name, PHONE, PHONE, "Sari", 1.0, "text", "halo")
    return msgspec.structs.replace(event, **changes)


# -- inbox -------------------------------------------------------------------------------------------------------------


def poison_events(harness: Harness) -> dict[str, Event]:
    """Events that a database refuses for different reasons; each names what is wrong with it."""
    number = harness.ours.device
    return {
        "number that does not exist": received(harness, "p1", number_id=999_999),
        "half a surrogate pair": received(harness, "p2", text="a\ud800b"),
        "time that is no number": received(harness, "p3", at="yesterday"),
        "no text at all": received(harness, "p4", text=None),
        "receipt of another shape": StatusChanged(number.account_id, number.id, "p5", "delivered", at=[]),  # type: ignore[arg-type]
        "id of a wrong type": received(harness, "p6", remote_id={"a": 1}),
        "state of a wrong type": ConnectionChanged(number.account_id, number.id, 7, "", 1.0),  # type: ignore[arg-type]
    }


async def test_an_event_that_cannot_be_stored_is_set_aside_and_the_others_are_stored(harness: Harness) -> None:
    poison = list(poison_events(harness).values())
    for i in range(40):
        harness.devices.hear(received(harness, f"good{i}"))
        if i % 6 == 0:
            harness.devices.hear(poison[i // 6 % len(poison)])
    await until(lambda: _all_good(harness, 40), "good events were not stored")
    found = await entries(harness)
    assert found, "nothing was set aside"
    assert all(entry.queue == "inbox" and entry.reason and entry.payload for entry in found)
    # what a database takes after all (SQLite stores most types) is stored; nothing is lost in silence
    stored = await scalar(harness, sa.select(sa.func.count()).select_from(incoming))
    receipts_and_states = 2
    assert stored + len(found) >= 40 + len(poison) - receipts_and_states
    assert 'kurir_quarantined_total{queue="inbox"}' in harness.gateway.metrics.render().decode()


async def _all_good(harness: Harness, count: int) -> bool:
    good = sa.select(sa.func.count()).select_from(incoming).where(incoming.c.remote_id.like("good%"))
    return await scalar(harness, good) == count


async def test_an_event_set_aside_can_be_replayed_once_what_was_wrong_is_right(harness: Harness) -> None:
    def no_texts(connection: sa.Connection) -> None:
        raise ValueError("unforeseen")

    original = Inbox._apply
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Inbox, "_apply", lambda *_: no_texts(_[1]))
        await harness.gateway.inbox.take_each([(received(harness, "A1"), "")])
    (entry,) = await entries(harness)
    assert Inbox._apply is original
    await harness.gateway.services.replays.replay(entry.id)
    assert await scalar(harness, sa.select(incoming.c.text)) == "halo"
    assert await entries(harness) == []
    with pytest.raises(NotFound):
        await harness.gateway.services.replays.replay(entry.id)


async def test_of_a_full_quarantine_what_failed_longest_ago_goes(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MOST", 3)
    number = harness.ours.device

    async def fail(reference: str, now: float) -> None:
        aside = SetAside(number.account_id, number.id, "inbox", reference, "unforeseen", b"x")
        await harness.gateway.database.write(lambda c: quarantine.set_aside(c, aside, now))

    for at, reference in enumerate(["a", "b", "c", "a", "d"]):
        await fail(reference, float(at))
    assert {entry.reference for entry in await entries(harness)} == {"a", "c", "d"}
    for reference in "efg":  # all in one moment
        await fail(reference, 9.0)
    assert {entry.reference for entry in await entries(harness)} == {"e", "f", "g"}


async def test_a_full_quarantine_costs_a_look_a_transaction_and_a_line_now_and_then(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MOST", 300)
    monkeypatch.setattr(quarantine, "_FULL", LogLimit(600.0))
    looks, removals = 0, 0

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal looks, removals
        looks += statement.startswith("SELECT quarantine.stored_at")
        removals += statement.startswith("DELETE FROM quarantine")

    ours, theirs = harness.ours.device, harness.theirs.device

    def fail(connection: sa.Connection, number: Number, references: range) -> None:
        for n in references:
            aside = SetAside(number.account_id, number.id, "inbox", f"r{n}", "unforeseen", b"x")
            quarantine.set_aside(connection, aside, float(n))

    database = harness.gateway.database
    await database.write(lambda c: fail(c, theirs, range(3)))
    sa.event.listen(database.engine, "before_cursor_execute", note)
    try:
        with capture_logs() as logs:
            await database.write(lambda c: fail(c, ours, range(300)))
            assert (looks, removals) == (1, 0)
            for n in range(300, 330):  # one at a time: four go at once
                await database.write(lambda c, n=n: fail(c, ours, range(n, n + 1)))
            assert removals == 8
            with database.transaction() as connection:  # a command's
                fail(connection, ours, range(330, 600))
            assert (looks, removals) == (1 + 30 + 8 + 2, 9)
            await database.write(lambda c: fail(c, ours, range(5_000, 5_400)))
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", note)
    full = [line for line in logs if line["event"] == "quarantine_full"]
    assert [line["account_id"] for line in full] == [ours.account_id, ours.account_id], "again when it lasts"
    left = await entries(harness)
    assert [entry.account_id for entry in left].count(theirs.account_id) == 3
    assert {entry.reference for entry in left if entry.account_id == ours.account_id} == {
        f"r{n}" for n in range(5_103, 5_400)
    }


async def test_what_is_done_at_a_transactions_end_fails_alone(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(connection: sa.Connection, *_: Any) -> None:
        connection.execute(quarantine.quarantine.delete())
        raise ValueError("unforeseen")

    monkeypatch.setattr(quarantine, "_remove_oldest", broken)
    aside = SetAside(harness.ours.account.id, 0, "inbox", "a", "unforeseen", b"x")
    with capture_logs() as logs:
        await harness.gateway.database.write(lambda c: quarantine.set_aside(c, aside, 1.0))
    assert [line["event"] for line in logs] == ["transaction_end_failed"]
    assert [entry.reference for entry in await entries(harness)] == ["a"]
    with pytest.raises(ValueError, match="given up"):  # what is rolled back leaves nothing for the next transaction

        def give_up(connection: sa.Connection) -> None:
            at_end(connection, "x", lambda _: pytest.fail("run after a commit that was none of its own"))
            raise ValueError("given up")

        with harness.gateway.database.transaction() as connection:
            give_up(connection)
    with harness.gateway.database.transaction():
        pass


# -- outbox ------------------------------------------------------------------------------------------------------------


async def accept(harness: Harness, recipient: str = PHONE, *, secret: bool = False) -> int:
    number = harness.ours.device
    draft = Draft(
        account_id=number.account_id, number_id=number.id, recipient=recipient, content=Text("halo"), sealed=secret
    )
    return (await harness.gateway.outbox.accept([draft])).ids[0]


async def spoil(harness: Harness, message_id: int, content: str) -> None:
    statement = messages.update().where(messages.c.id == message_id).values(content=content)
    await harness.gateway.database.write(lambda c: c.execute(statement) and None)


async def state(harness: Harness, message_id: int) -> str:
    found = await harness.gateway.outbox.snapshot(harness.ours.account.id, message_id)
    assert found is not None
    return f"{found.state} {found.error_code}".strip()


CONTENTS = ['{"type":"poll"}', "", "not json", '{"type":"text"}', '{"type":"text","text":[1]}', "[]", "\ufffd"]
"""What a newer version wrote before a downgrade, or what damage leaves."""


@pytest.mark.parametrize("content", CONTENTS)
async def test_a_message_that_cannot_be_read_fails_alone(harness: Harness, content: str) -> None:
    harness.devices.connected = False
    bad, good = await accept(harness, "628111"), [await accept(harness, f"62822{i}") for i in range(5)]
    behind = await accept(harness, "628111")
    await spoil(harness, bad, content)
    harness.devices.connected = True
    harness.gateway.dispatcher.wake(harness.ours.device.account_id, harness.ours.device.id)
    for message_id in (*good, behind):

        async def sent(message_id: int = message_id) -> bool:
            return await state(harness, message_id) == "sent"

        await until(sent, f"a good message stays {await state(harness, message_id)}")
    assert await state(harness, bad) == "failed unprocessable"
    (entry,) = await entries(harness)
    assert (entry.queue, entry.reference, entry.payload.decode()) == ("outbox", str(bad), content)
    assert harness.gateway.health.failures() == []
    assert harness.gateway.outbox.waiting() == 0


async def test_what_an_earlier_process_left_in_flight_and_cannot_be_read_is_in_doubt(harness: Harness) -> None:
    number, dispatcher = harness.ours.device, harness.gateway.dispatcher
    harness.devices.connected = False
    bad, good = await accept(harness, "628111"), await accept(harness, "628222")
    await dispatcher.end(number.id, 1.0)
    await spoil(harness, bad, '{"type":"poll"}')
    in_flight = messages.update().where(messages.c.id == bad).values(state="sending", attempts=1)
    await harness.gateway.database.write(lambda c: c.execute(in_flight) and None)
    harness.devices.connected = True
    dispatcher.begin(number.account_id, number.id)

    async def sent() -> bool:
        return await state(harness, good) == "sent"

    await until(sent, "the good message was not sent")
    assert await state(harness, bad) == "unconfirmed unprocessable"


async def test_a_message_whose_outcome_cannot_be_recorded_ends_and_the_lane_goes_on(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, bad = record.record, await held(harness, "628111")
    good = await held(harness, "628222")

    def breaks(connection: sa.Connection, claimed: Any, *arguments: Any, **named: Any) -> Any:
        if claimed.id == bad:
            raise RuntimeError("unforeseen")
        return original(connection, claimed, *arguments, **named)

    monkeypatch.setattr(record, "record", breaks)
    harness.devices.connected = True
    harness.gateway.dispatcher.wake(harness.ours.device.account_id, harness.ours.device.id)

    async def sent() -> bool:
        return (await state(harness, good), await state(harness, bad)) == ("sent", "sent")

    await until(sent, "a message stays in flight")  # it left, so that is what is known of it
    assert [entry.reference for entry in await entries(harness)] == [str(bad)]
    assert len(harness.devices.sent) == 2  # never twice


@pytest.mark.parametrize("remote_id", [{"a": 1}, "a"], ids=["cannot be stored", "can be stored"])
@pytest.mark.parametrize("quarantine_breaks", [False, True])
async def test_a_message_leaves_the_queue_whatever_cannot_be_written_of_it(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, remote_id: Any, quarantine_breaks: bool
) -> None:
    if quarantine_breaks:
        monkeypatch.setattr(quarantine, "set_aside", lambda *_: 1 / 0)
    original, bad = record.record, await held(harness, "628111")
    good = await held(harness, "628222")

    def breaks(connection: sa.Connection, claimed: Any, *arguments: Any, **named: Any) -> Any:
        if claimed.id == bad:
            raise RuntimeError("unforeseen")
        return original(connection, claimed, *arguments, **named)

    monkeypatch.setattr(record, "record", breaks)
    harness.devices.outcome = lambda out: Sent(remote_id if out.message_id == bad else f"r{out.message_id}")
    harness.devices.connected = True
    harness.gateway.dispatcher.wake(harness.ours.device.account_id, harness.ours.device.id)

    async def sent() -> bool:
        return (await state(harness, good), await state(harness, bad)) == ("sent", "sent")

    await until(sent, "a message stays in flight")
    known_as = await scalar(harness, sa.select(messages.c.remote_id).where(messages.c.id == bad))
    assert known_as == (None if quarantine_breaks or not isinstance(remote_id, str) else remote_id)
    assert len(await entries(harness)) == (0 if quarantine_breaks else 1)
    after = await accept(harness, "628111")  # and those behind it go on

    async def next_sent() -> bool:
        return await state(harness, after) == "sent"

    harness.devices.outcome = lambda out: Sent(f"r{out.message_id}")
    await until(next_sent, "the lane stands still")
    assert len(harness.devices.sent) == 3


async def test_a_message_that_cannot_be_read_nor_set_aside_holds_nobody_up(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "set_aside", lambda *_: 1 / 0)
    bad, good = await held(harness, "628111"), await held(harness, "628222")
    await spoil(harness, bad, "damaged")
    harness.devices.connected = True
    harness.gateway.dispatcher.wake(harness.ours.device.account_id, harness.ours.device.id)

    async def settled() -> bool:
        return (await state(harness, good), await state(harness, bad)) == ("sent", "failed unprocessable")

    await until(settled, "a message stays in flight")


async def held(harness: Harness, recipient: str) -> int:
    harness.devices.connected = False
    return await accept(harness, recipient)


async def test_a_secret_is_not_kept_in_the_quarantine(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.devices.connected = False
    bad = await accept(harness, secret=True)
    monkeypatch.setattr(ReadableRows, "_claimed", lambda *_: 1 / 0)
    harness.devices.connected = True
    harness.gateway.dispatcher.wake(harness.ours.device.account_id, harness.ours.device.id)

    async def failed() -> bool:
        return await state(harness, bad) == "failed unprocessable"

    await until(failed, "the message was not set aside")
    (entry,) = await entries(harness)
    assert entry.payload == b""
    assert await scalar(harness, sa.select(messages.c.content).where(messages.c.id == bad)) == ""


# -- webhooks ----------------------------------------------------------------------------------------------------------


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


async def test_a_delivery_that_cannot_be_recorded_is_set_aside_and_the_rest_goes_on(
    webhooks: WebhookHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = deliveries.record

    def breaks(connection: sa.Connection, delivery: Any, *arguments: Any, **named: Any) -> str:
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
    (entry,) = await webhooks.database.read(set_aside)
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


# -- replay by the operator ----------------------------------------------------------------------------------------


async def test_the_operator_lists_replays_and_discards(harness: Harness) -> None:
    harness.devices.connected = False
    bad, worse = await accept(harness, "628111"), await accept(harness, "628222")
    await spoil(harness, bad, '{"type":"poll"}')
    await spoil(harness, worse, "damaged")
    harness.devices.connected = True
    harness.gateway.dispatcher.wake(harness.ours.device.account_id, harness.ours.device.id)

    async def aside() -> bool:
        return len(await entries(harness)) == 2

    await until(aside, "the messages were not set aside")
    token = load_token(harness.gateway.settings.data_dir)
    client, headers = harness.client, {"Authorization": f"Bearer {token}"}
    assert (await client.get("/api/v1/quarantine")).status_code == 401
    listed = (await client.get("/api/v1/quarantine", headers=headers)).json()["entries"]
    assert [entry["reference"] for entry in listed] == [str(worse), str(bad)]
    assert all("payload" not in entry for entry in listed)
    await spoil(harness, bad, encode_content(harness.gateway.sealing, bad, Text("halo"), False))
    answer = await client.post(f"/api/v1/quarantine/{listed[1]['id']}/replay", headers=headers)
    assert answer.status_code == 200, answer.text

    async def sent() -> bool:
        return await state(harness, bad) == "sent"

    await until(sent, "the replayed message was not sent")
    assert (await client.post(f"/api/v1/quarantine/{listed[0]['id']}/discard", headers=headers)).status_code == 200
    assert await entries(harness) == []


@pytest.mark.parametrize("which", ["0", "x", "-1", "9" * 5000, "1e3", "%00", "999"])
async def test_an_entry_that_does_not_exist_is_a_clear_answer(harness: Harness, which: str) -> None:
    headers = {"Authorization": f"Bearer {load_token(harness.gateway.settings.data_dir)}"}
    for decision in ("replay", "discard"):
        answer = await harness.client.post(f"/api/v1/quarantine/{which}/{decision}", headers=headers)
        assert answer.status_code in {400, 404}
        assert answer.json()["error"]["field"] == "id"
    answer = await harness.client.get("/api/v1/quarantine", params={"limit": which}, headers=headers)
    assert answer.status_code == 200 or answer.json()["error"]["field"] == "limit"
