"""The quarantine: bounded for each account, at little cost, and listed, replayed and discarded by the operator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs
from tests.harness.gateway import Harness, open_harness
from tests.hostile.poison import accept, entries, spoil, state, until

from kurir.kit.log_limit import LogLimit
from kurir.kit.tokens import load_token
from kurir.messages.channel_reports import Quarantined
from kurir.messages.content import Text
from kurir.numbers.numbers import Number
from kurir.outbox.message_rows import encode_content
from kurir.quarantine import quarantine
from kurir.reasons import read, sentence, stored
from kurir.reasons.messages import EXHAUSTED
from kurir.store.transaction_end import at_end


@pytest.fixture
async def harness(tmp_path: Path, database_url: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database_url) as opened:
        yield opened


async def test_of_a_full_quarantine_what_failed_longest_ago_goes(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MOST", 3)
    number = harness.ours.device

    async def fail(reference: str, now: float) -> None:
        quarantined = Quarantined(number.account_id, number.id, "inbox", reference, "unforeseen", b"x")
        await harness.gateway.database.write(lambda c: quarantine.add(c, quarantined, now))

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
            quarantined = Quarantined(number.account_id, number.id, "inbox", f"r{n}", "unforeseen", b"x")
            quarantine.add(connection, quarantined, float(n))

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
    quarantined = Quarantined(harness.ours.account.id, 0, "inbox", "a", "unforeseen", b"x")
    with capture_logs() as logs:
        await harness.gateway.database.write(lambda c: quarantine.add(c, quarantined, 1.0))
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


async def test_the_operator_lists_replays_and_discards(harness: Harness) -> None:
    harness.devices.connected = False
    bad, worse = await accept(harness, "628111"), await accept(harness, "628222")
    await spoil(harness, bad, '{"type":"poll"}')
    await spoil(harness, worse, "damaged")
    harness.devices.connected = True
    harness.gateway.dispatcher.wake(harness.ours.device.account_id, harness.ours.device.id)

    async def quarantined() -> bool:
        return len(await entries(harness)) == 2

    await until(quarantined, "the messages were not quarantined")
    token = load_token(harness.gateway.settings.data_dir)
    client, headers = harness.client, {"Authorization": f"Bearer {token}"}
    assert (await client.get("/api/v1/quarantine")).status_code == 401
    listed = (await client.get("/api/v1/quarantine", headers=headers)).json()["entries"]
    assert [entry["reference"] for entry in listed] == [str(worse), str(bad)]
    assert all("payload" not in entry for entry in listed)
    assert all(entry["reason"].startswith("its content cannot be read (") for entry in listed), listed
    indonesian = (await client.get("/api/v1/quarantine", headers={**headers, "Accept-Language": "id"})).json()[
        "entries"
    ]
    assert all(entry["reason"].startswith("isinya tidak dapat dibaca (") for entry in indonesian), indonesian
    await spoil(harness, bad, encode_content(harness.gateway.sealing, bad, Text("halo"), False))
    answer = await client.post(f"/api/v1/quarantine/{listed[1]['id']}/replay", headers=headers)
    assert answer.status_code == 200, answer.text

    async def sent() -> bool:
        return await state(harness, bad) == "sent"

    await until(sent, "the replayed message was not sent")
    assert (await client.post(f"/api/v1/quarantine/{listed[0]['id']}/discard", headers=headers)).status_code == 200
    assert await entries(harness) == []


async def test_the_reason_of_a_cut_entry_fits_however_long_it_is(harness: Harness) -> None:
    """Another party's words, which take six times as much room as JSON."""
    long = stored(EXHAUSTED(tries=1, last="\x01" * 300))
    quarantined = Quarantined(harness.ours.account.id, 0, "outbox", "1", long, b"x" * quarantine.LARGEST)
    await harness.gateway.database.write(lambda c: quarantine.add(c, quarantined, 1.0))
    (entry,) = await entries(harness)
    text = sentence(read(entry.reason), "id")
    assert text.startswith("dipotong: hanya 1000000 byte pertama dari 1000000 byte yang disimpan; "), text
    assert "{" not in text


@pytest.mark.parametrize("which", ["0", "x", "-1", "9" * 5000, "1e3", "%00", "999"])
async def test_an_entry_that_does_not_exist_is_a_clear_answer(harness: Harness, which: str) -> None:
    headers = {"Authorization": f"Bearer {load_token(harness.gateway.settings.data_dir)}"}
    for decision in ("replay", "discard"):
        answer = await harness.client.post(f"/api/v1/quarantine/{which}/{decision}", headers=headers)
        assert answer.status_code in {400, 404}
        assert answer.json()["error"]["field"] == "id"
    answer = await harness.client.get("/api/v1/quarantine", params={"limit": which}, headers=headers)
    assert answer.status_code == 200 or answer.json()["error"]["field"] == "limit"
