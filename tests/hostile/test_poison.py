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
from tests.gateway_fixture import PHONE, Front, open_front, set_aside
from tests.webhook_harness import WebhookHarness, delivering, eventually, open_webhook_harness, receiving

from kurir.dispatch import lane
from kurir.inbox import Inbox
from kurir.inbox.tables import incoming
from kurir.kit.log_limit import LogLimit
from kurir.kit.tasks import Tasks
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
from kurir.reasons import NOTHING, Reason
from kurir.services.errors import NotFound
from kurir.store.transaction_end import at_end
from kurir.webhooks import deliveries, endpoints
from kurir.webhooks.tables import webhook_endpoints


@pytest.fixture(params=["sqlite", "postgres"])
async def front(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Front]:
    if request.param == "sqlite":
        async with open_front(tmp_path) as opened:
            yield opened
        return
    server = request.getfixturevalue("postgres")
    url = server.new_database("kurir")
    async with open_front(tmp_path, database_url=url) as opened:
        yield opened
    server.drop(url)


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> None:
    try:
        async with asyncio.timeout(20):
            while not await condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what) from None


async def entries(front: Front) -> list[Entry]:
    return await front.gateway.database.read(set_aside)


async def scalar(front: Front, statement: sa.Select[Any]) -> Any:
    return await front.gateway.database.read(lambda c: c.execute(statement).scalar_one())


def received(front: Front, name: str, **changes: Any) -> Received:
    number = front.ours.device
    event = Received(number.account_id, number.id, name, PHONE, PHONE, "Sari", 1.0, "text", "halo")
    return msgspec.structs.replace(event, **changes)


# -- inbox -------------------------------------------------------------------------------------------------------------


def poison_events(front: Front) -> dict[str, Event]:
    """Events that a database refuses for different reasons; each names what is wrong with it."""
    number = front.ours.device
    return {
        "number that does not exist": received(front, "p1", number_id=999_999),
        "half a surrogate pair": received(front, "p2", text="a\ud800b"),
        "time that is no number": received(front, "p3", at="yesterday"),
        "no text at all": received(front, "p4", text=None),
        "receipt of another shape": StatusChanged(number.account_id, number.id, "p5", "delivered", at=[]),  # type: ignore[arg-type]
        "id of a wrong type": received(front, "p6", remote_id={"a": 1}),
        "state of a wrong type": ConnectionChanged(number.account_id, number.id, 7, NOTHING, 1.0),  # type: ignore[arg-type]
    }


async def test_an_event_that_cannot_be_stored_is_set_aside_and_the_others_are_stored(front: Front) -> None:
    poison = list(poison_events(front).values())
    following = Tasks()
    following.keep("inbox", lambda: front.gateway.inbox.follow(front.devices))  # type: ignore[arg-type]
    for i in range(40):
        front.devices.hear(received(front, f"good{i}"))
        if i % 6 == 0:
            front.devices.hear(poison[i // 6 % len(poison)])
    await until(lambda: _all_good(front, 40), "good events were not stored")
    await following.close()
    found = await entries(front)
    assert found, "nothing was set aside"
    assert all(entry.queue == "inbox" and entry.reason and entry.payload for entry in found)
    # what a database takes after all (SQLite stores most types) is stored; nothing is lost in silence
    stored = await scalar(front, sa.select(sa.func.count()).select_from(incoming))
    receipts_and_states = 2
    assert stored + len(found) >= 40 + len(poison) - receipts_and_states
    assert 'kurir_quarantined_total{queue="inbox"}' in front.gateway.metrics.render().decode()


async def _all_good(front: Front, count: int) -> bool:
    good = sa.select(sa.func.count()).select_from(incoming).where(incoming.c.remote_id.like("good%"))
    return await scalar(front, good) == count


async def test_an_event_set_aside_can_be_replayed_once_what_was_wrong_is_right(front: Front) -> None:
    def no_texts(connection: sa.Connection) -> None:
        raise ValueError("unforeseen")

    original = Inbox._apply
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Inbox, "_apply", lambda *_: no_texts(_[1]))
        await front.gateway.inbox.take_each([(received(front, "A1"), "")])
    (entry,) = await entries(front)
    assert Inbox._apply is original
    await front.gateway.services.replays.replay(entry.id)
    assert await scalar(front, sa.select(incoming.c.text)) == "halo"
    assert await entries(front) == []
    with pytest.raises(NotFound):
        await front.gateway.services.replays.replay(entry.id)


async def test_of_a_full_quarantine_what_failed_longest_ago_goes(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "MOST", 3)
    number = front.ours.device

    async def fail(reference: str, now: float) -> None:
        aside = SetAside(number.account_id, number.id, "inbox", reference, "unforeseen", b"x")
        await front.gateway.database.write(lambda c: quarantine.set_aside(c, aside, now))

    for at, reference in enumerate(["a", "b", "c", "a", "d"]):
        await fail(reference, float(at))
    assert {entry.reference for entry in await entries(front)} == {"a", "c", "d"}
    for reference in "efg":  # all in one moment
        await fail(reference, 9.0)
    assert {entry.reference for entry in await entries(front)} == {"e", "f", "g"}


async def test_a_full_quarantine_costs_a_look_a_transaction_and_a_line_now_and_then(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MOST", 300)
    monkeypatch.setattr(quarantine, "_FULL", LogLimit(600.0))
    looks, removals = 0, 0

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal looks, removals
        looks += statement.startswith("SELECT quarantine.stored_at")
        removals += statement.startswith("DELETE FROM quarantine")

    ours, theirs = front.ours.device, front.theirs.device

    def fail(connection: sa.Connection, number: Number, references: range) -> None:
        for n in references:
            aside = SetAside(number.account_id, number.id, "inbox", f"r{n}", "unforeseen", b"x")
            quarantine.set_aside(connection, aside, float(n))

    database = front.gateway.database
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
    left = await entries(front)
    assert [entry.account_id for entry in left].count(theirs.account_id) == 3
    assert {entry.reference for entry in left if entry.account_id == ours.account_id} == {
        f"r{n}" for n in range(5_103, 5_400)
    }


async def test_what_is_done_at_a_transactions_end_fails_alone(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(connection: sa.Connection, *_: Any) -> None:
        connection.execute(quarantine.quarantine.delete())
        raise ValueError("unforeseen")

    monkeypatch.setattr(quarantine, "_remove_oldest", broken)
    aside = SetAside(front.ours.account.id, 0, "inbox", "a", "unforeseen", b"x")
    with capture_logs() as logs:
        await front.gateway.database.write(lambda c: quarantine.set_aside(c, aside, 1.0))
    assert [line["event"] for line in logs] == ["transaction_end_failed"]
    assert [entry.reference for entry in await entries(front)] == ["a"]
    with pytest.raises(ValueError, match="given up"):  # what is rolled back leaves nothing for the next transaction

        def give_up(connection: sa.Connection) -> None:
            at_end(connection, "x", lambda _: pytest.fail("run after a commit that was none of its own"))
            raise ValueError("given up")

        with front.gateway.database.transaction() as connection:
            give_up(connection)
    with front.gateway.database.transaction():
        pass


# -- outbox ------------------------------------------------------------------------------------------------------------


async def accept(front: Front, recipient: str = PHONE, *, secret: bool = False) -> int:
    number = front.ours.device
    draft = Draft(
        account_id=number.account_id, number_id=number.id, recipient=recipient, content=Text("halo"), sealed=secret
    )
    return (await front.gateway.outbox.accept([draft])).ids[0]


async def spoil(front: Front, message_id: int, content: str) -> None:
    statement = messages.update().where(messages.c.id == message_id).values(content=content)
    await front.gateway.database.write(lambda c: c.execute(statement) and None)


async def state(front: Front, message_id: int) -> str:
    found = await front.gateway.outbox.snapshot(front.ours.account.id, message_id)
    assert found is not None
    return f"{found.state} {found.error_code}".strip()


CONTENTS = ['{"type":"poll"}', "", "not json", '{"type":"text"}', '{"type":"text","text":[1]}', "[]", "\ufffd"]
"""What a newer version wrote before a downgrade, or what damage leaves."""


@pytest.mark.parametrize("content", CONTENTS)
async def test_a_message_that_cannot_be_read_fails_alone(front: Front, content: str) -> None:
    front.devices.connected = False
    bad, good = await accept(front, "628111"), [await accept(front, f"62822{i}") for i in range(5)]
    behind = await accept(front, "628111")
    await spoil(front, bad, content)
    front.devices.connected = True
    front.gateway.dispatcher.wake(front.ours.device.account_id, front.ours.device.id)
    for message_id in (*good, behind):

        async def sent(message_id: int = message_id) -> bool:
            return await state(front, message_id) == "sent"

        await until(sent, f"a good message stays {await state(front, message_id)}")
    assert await state(front, bad) == "failed unprocessable"
    (entry,) = await entries(front)
    assert (entry.queue, entry.reference, entry.payload.decode()) == ("outbox", str(bad), content)
    assert front.gateway.health.failures() == []
    assert front.gateway.outbox.waiting() == 0


async def test_what_an_earlier_process_left_in_flight_and_cannot_be_read_is_in_doubt(front: Front) -> None:
    number, dispatcher = front.ours.device, front.gateway.dispatcher
    front.devices.connected = False
    bad, good = await accept(front, "628111"), await accept(front, "628222")
    await dispatcher.end(number.id, 1.0)
    await spoil(front, bad, '{"type":"poll"}')
    in_flight = messages.update().where(messages.c.id == bad).values(state="sending", attempts=1)
    await front.gateway.database.write(lambda c: c.execute(in_flight) and None)
    front.devices.connected = True
    dispatcher.begin(number.account_id, number.id)

    async def sent() -> bool:
        return await state(front, good) == "sent"

    await until(sent, "the good message was not sent")
    assert await state(front, bad) == "unconfirmed unprocessable"


async def test_a_message_whose_outcome_cannot_be_recorded_ends_and_the_lane_goes_on(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "_PAUSE_AFTER_TROUBLE", 0.01)
    original, bad = record.record, await held(front, "628111")
    good = await held(front, "628222")

    def breaks(connection: sa.Connection, claimed: Any, *arguments: Any, **named: Any) -> Any:
        if claimed.id == bad:
            raise RuntimeError("unforeseen")
        return original(connection, claimed, *arguments, **named)

    monkeypatch.setattr(record, "record", breaks)
    front.devices.connected = True
    front.gateway.dispatcher.wake(front.ours.device.account_id, front.ours.device.id)

    async def sent() -> bool:
        return (await state(front, good), await state(front, bad)) == ("sent", "sent")

    await until(sent, "a message stays in flight")  # it left, so that is what is known of it
    assert [entry.reference for entry in await entries(front)] == [str(bad)]
    assert len(front.devices.sent) == 2  # never twice


@pytest.mark.parametrize("remote_id", [{"a": 1}, "a"], ids=["cannot be stored", "can be stored"])
@pytest.mark.parametrize("quarantine_breaks", [False, True])
async def test_a_message_leaves_the_queue_whatever_cannot_be_written_of_it(
    front: Front, monkeypatch: pytest.MonkeyPatch, remote_id: Any, quarantine_breaks: bool
) -> None:
    monkeypatch.setattr(lane, "_PAUSE_AFTER_TROUBLE", 0.01)
    if quarantine_breaks:
        monkeypatch.setattr(quarantine, "set_aside", lambda *_: 1 / 0)
    original, bad = record.record, await held(front, "628111")
    good = await held(front, "628222")

    def breaks(connection: sa.Connection, claimed: Any, *arguments: Any, **named: Any) -> Any:
        if claimed.id == bad:
            raise RuntimeError("unforeseen")
        return original(connection, claimed, *arguments, **named)

    monkeypatch.setattr(record, "record", breaks)
    front.devices.outcome = lambda out: Sent(remote_id if out.message_id == bad else f"r{out.message_id}")
    front.devices.connected = True
    front.gateway.dispatcher.wake(front.ours.device.account_id, front.ours.device.id)

    async def sent() -> bool:
        return (await state(front, good), await state(front, bad)) == ("sent", "sent")

    await until(sent, "a message stays in flight")
    known_as = await scalar(front, sa.select(messages.c.remote_id).where(messages.c.id == bad))
    assert known_as == (None if quarantine_breaks or not isinstance(remote_id, str) else remote_id)
    assert len(await entries(front)) == (0 if quarantine_breaks else 1)
    after = await accept(front, "628111")  # and those behind it go on

    async def next_sent() -> bool:
        return await state(front, after) == "sent"

    front.devices.outcome = lambda out: Sent(f"r{out.message_id}")
    await until(next_sent, "the lane stands still")
    assert len(front.devices.sent) == 3


async def test_a_message_that_cannot_be_read_nor_set_aside_holds_nobody_up(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "set_aside", lambda *_: 1 / 0)
    bad, good = await held(front, "628111"), await held(front, "628222")
    await spoil(front, bad, "damaged")
    front.devices.connected = True
    front.gateway.dispatcher.wake(front.ours.device.account_id, front.ours.device.id)

    async def settled() -> bool:
        return (await state(front, good), await state(front, bad)) == ("sent", "failed unprocessable")

    await until(settled, "a message stays in flight")


async def held(front: Front, recipient: str) -> int:
    front.devices.connected = False
    return await accept(front, recipient)


async def test_a_secret_is_not_kept_in_the_quarantine(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    front.devices.connected = False
    bad = await accept(front, secret=True)
    monkeypatch.setattr(ReadableRows, "_claimed", lambda *_: 1 / 0)
    front.devices.connected = True
    front.gateway.dispatcher.wake(front.ours.device.account_id, front.ours.device.id)

    async def failed() -> bool:
        return await state(front, bad) == "failed unprocessable"

    await until(failed, "the message was not set aside")
    (entry,) = await entries(front)
    assert entry.payload == b""
    assert await scalar(front, sa.select(messages.c.content).where(messages.c.id == bad)) == ""


# -- webhooks ----------------------------------------------------------------------------------------------------------


async def test_a_state_is_recorded_even_if_nobody_can_be_notified_of_it(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = front.ours.account
    await front.gateway.database.write(
        lambda c: endpoints.add(
            c,
            front.gateway.sealing,
            account.id,
            "https://receiver.test/hook",
            allowed=Allowed(),
            events=["message_status"],
            now=1.0,
        )
    )
    monkeypatch.setattr(status_events, "_status", lambda *_: 1 / 0)
    message_id = await accept(front)

    async def sent() -> bool:
        return await state(front, message_id) == "sent"

    await until(sent, "the message was not sent")
    assert {entry.queue for entry in await entries(front)} == {"webhook"}


@pytest.fixture(params=["sqlite", "postgres"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[WebhookHarness]:
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
    harness: WebhookHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = deliveries.record

    def breaks(connection: sa.Connection, delivery: Any, *arguments: Any, **named: Any) -> Reason:
        if "poison" in delivery.body:
            raise RuntimeError("unforeseen")
        return original(connection, delivery, *arguments, **named)

    monkeypatch.setattr(deliveries, "record", breaks)
    async with receiving() as receiver, delivering(harness.database, harness.time):
        endpoint, _ = await harness.endpoint(receiver.url())
        await harness.comes_in(text="poison")
        await harness.comes_in(text="behind it")
        await harness.comes_in(chat="628222", text="elsewhere")
        await eventually(lambda: delivered_and_failed(harness, endpoint), (2, 1))
        assert {webhook_call.text for webhook_call in receiver.at()} >= {"behind it", "elsewhere"}
    (entry,) = await harness.database.read(set_aside)
    assert entry.queue == "webhook"
    assert entry.reference.startswith("delivery:")


async def delivered_and_failed(harness: WebhookHarness, endpoint: Any) -> tuple[int, int]:
    states = await harness.states(endpoint)
    return states["delivered"], states["failed"]


async def test_an_endpoint_that_cannot_be_read_delays_no_other(harness: WebhookHarness) -> None:
    async with receiving() as receiver:
        bad, _ = await harness.endpoint(receiver.url("/bad"))
        good, _ = await harness.endpoint(receiver.url("/good"))
        spoilt = webhook_endpoints.update().where(webhook_endpoints.c.id == bad.id).values(secret_sealed="damaged")
        await harness.database.write(lambda c: c.execute(spoilt) and None)
        for i in range(3):
            await harness.comes_in(text=f"t{i}")
        async with delivering(harness.database, harness.time):
            assert [webhook_call.text for webhook_call in await receiver.until(3, "/good")] == ["t0", "t1", "t2"]
            await eventually(lambda: delivered_and_failed(harness, good), (3, 0))
            await eventually(lambda: delivered_and_failed(harness, bad), (0, 3), timeout=60.0)
        assert receiver.at("/bad") == []


# -- replay by the operator ----------------------------------------------------------------------------------------


async def test_the_operator_lists_replays_and_discards(front: Front) -> None:
    front.devices.connected = False
    bad, worse = await accept(front, "628111"), await accept(front, "628222")
    await spoil(front, bad, '{"type":"poll"}')
    await spoil(front, worse, "damaged")
    front.devices.connected = True
    front.gateway.dispatcher.wake(front.ours.device.account_id, front.ours.device.id)

    async def aside() -> bool:
        return len(await entries(front)) == 2

    await until(aside, "the messages were not set aside")
    token = load_token(front.gateway.settings.data_dir)
    client, headers = front.client, {"Authorization": f"Bearer {token}"}
    assert (await client.get("/api/v1/quarantine")).status_code == 401
    listed = (await client.get("/api/v1/quarantine", headers=headers)).json()["entries"]
    assert [entry["reference"] for entry in listed] == [str(worse), str(bad)]
    assert all("payload" not in entry for entry in listed)
    await spoil(front, bad, encode_content(front.gateway.sealing, bad, Text("halo"), False))
    answer = await client.post(f"/api/v1/quarantine/{listed[1]['id']}/replay", headers=headers)
    assert answer.status_code == 200, answer.text

    async def sent() -> bool:
        return await state(front, bad) == "sent"

    await until(sent, "the replayed message was not sent")
    assert (await client.post(f"/api/v1/quarantine/{listed[0]['id']}/discard", headers=headers)).status_code == 200
    assert await entries(front) == []


@pytest.mark.parametrize("which", ["0", "x", "-1", "9" * 5000, "1e3", "%00", "999"])
async def test_an_entry_that_does_not_exist_is_a_clear_answer(front: Front, which: str) -> None:
    headers = {"Authorization": f"Bearer {load_token(front.gateway.settings.data_dir)}"}
    for decision in ("replay", "discard"):
        answer = await front.client.post(f"/api/v1/quarantine/{which}/{decision}", headers=headers)
        assert answer.status_code in {400, 404}
        assert answer.json()["error"]["field"] == "id"
    answer = await front.client.get("/api/v1/quarantine", params={"limit": which}, headers=headers)
    assert answer.status_code == 200 or answer.json()["error"]["field"] == "limit"
