"""What a tenant signs himself: he knows his app secret, so a right signature makes no body small or sensible."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs
from tests.harness.gateway import Harness, open_harness
from tests.hostile.callbacks import callback, change, client_at, entries, message, post, status, stored

from kurir.channels.cloud_api import callback_parts
from kurir.channels.cloud_api import callbacks as reading
from kurir.inbox import inbox as inbox_module
from kurir.inbox import raw_callbacks
from kurir.inbox.tables import callbacks
from kurir.services import callbacks as service
from kurir.store.database import Database
from kurir.web.meta_callbacks import BODY_LIMIT


@pytest.fixture
async def harness(tmp_path: Path, database_url: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database_url) as harness:
        yield harness


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as harness:
        yield harness


@contextmanager
def inserts(database: Database, table: str) -> Iterator[list[int]]:
    """How many rows of a table each transaction has inserted that inserted any."""
    found = [0]

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement == "COMMIT" and found[-1]:
            found.append(0)
        found[-1] += statement.startswith(f"INSERT INTO {table} ")

    sa.event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", note)
        del found[-1]


def strange(count: int) -> dict[str, Any]:
    """Changes that are each about another number, none of which is set up here."""
    changes = [{"value": {"metadata": {"phone_number_id": f"{n:x}"}}} for n in range(count)]
    return {"entry": [{"id": "1", "changes": changes}]}


# -- many things in one body -------------------------------------------------------------------------------------------


async def test_many_changes_about_strange_numbers_are_one_entry(harness: Harness) -> None:
    raw = json.dumps(strange(43_334), separators=(",", ":")).encode()
    assert len(raw) < BODY_LIMIT
    with inserts(harness.gateway.database, "quarantine") as found:
        assert await post(harness, raw) == 200
        assert await post(harness, raw) == 200  # the same again is there once
    assert max(found) <= 2
    quarantined = await entries(harness)
    tenants = [harness.ours.account.id, harness.theirs.account.id]  # both have the same app secret
    assert sorted(entry.account_id for entry in quarantined) == sorted(tenants)
    assert all(entry.reference.startswith(reading.BODY) for entry in quarantined)
    assert all("objects, lists and commas, more than" in entry.reason for entry in quarantined)
    assert 'kurir_callbacks_total{result="set_aside"} 2.0' in harness.gateway.metrics.render().decode()


async def test_more_changes_than_meta_sends_are_one_entry(small: Harness) -> None:
    changes = [change(small, messages=[message(f"wamid.{n}")]) for n in range(callback_parts.CHANGES + 1)]
    assert await post(small, json.dumps(callback(small, *changes)).encode()) == 200
    assert ["the callback has 1001 changes, more than 1000" in entry.reason for entry in await entries(small)] == [
        True
    ] * 2
    assert await stored(small) == set()


async def test_what_is_quarantined_change_by_change_is_little_and_else_the_body_goes(harness: Harness) -> None:
    good = [change(harness, messages=[message("wamid.a")]), change(harness, messages=[message("wamid.b")])]
    for count in (callback_parts.ENTRIES, callback_parts.ENTRIES + 1, callback_parts.CHANGES - 2):
        found = strange(count)["entry"][0]["changes"]
        raw = json.dumps(callback(harness, good[0], *found, good[1])).encode()
        with inserts(harness.gateway.database, "quarantine") as stored_entries:
            assert await post(harness, raw) == 200
        assert sum(stored_entries) == (count if count <= callback_parts.ENTRIES else 2)
        assert max(stored_entries) <= inbox_module.GROUP
        assert await stored(harness) == {"wamid.a", "wamid.b"}, "the others are stored in any case"
    quarantined = await entries(harness)
    assert len(quarantined) == callback_parts.ENTRIES + 4
    assert "101 of its changes cannot be read or are about numbers" in quarantined[3].reason


@pytest.mark.parametrize("count", [callback_parts.ENTRIES, callback_parts.CHANGES])
async def test_changes_that_cannot_be_read_are_stored_in_groups(
    small: Harness, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise KeyError("nobody foresaw this")

    changes = [change(small, messages=[message(f"wamid.{n}")]) for n in range(count)]
    with monkeypatch.context() as patch, inserts(small.gateway.database, "quarantine") as found:
        patch.setattr(reading, "_received", broken)
        assert await post(small, json.dumps(callback(small, *changes)).encode()) == 200
    assert sum(found) == (count if count <= callback_parts.ENTRIES else 2)
    assert max(found) <= inbox_module.GROUP
    for entry in await entries(small):
        if entry.account_id == small.ours.account.id:
            await small.gateway.services.replays.replay_of_any(entry.id)
    assert len(await stored(small)) == count


@pytest.mark.parametrize("part", ["statuses", "messages", "nothing known", "of a business"])
async def test_more_in_a_change_than_meta_sends_is_one_entry_and_can_be_replayed(
    small: Harness, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setattr(callback_parts, "PARTS", 450)

    def body(count: int) -> bytes:
        match part:
            case "statuses":
                found = [change(small, statuses=[status(f"s{n}", status="sent") for n in range(count)])]
            case "messages":
                half = count // 2
                found = [change(small, messages=[message(f"m{n}") for n in range(half)])]
                found.append(change(small, messages=[message(f"n{n}") for n in range(count - half)]))
            case "nothing known":
                found = [change(small, statuses=[{}] * (count - 1), messages=[message("m1")])]
            case _:
                review = {"event": "APPROVED", "message_template_id": 5}
                found = [{"field": "message_template_status_update", "value": review | {"n": n}} for n in range(count)]
                for n, one in enumerate(found):
                    one["value"]["message_template_id"] = n + 1
        return json.dumps(callback(small, *found)).encode()

    with inserts(small.gateway.database, "callbacks") as found:
        assert await post(small, body(450)) == 200
    assert max(found) <= inbox_module.GROUP
    assert await entries(small) == []
    with inserts(small.gateway.database, "callbacks") as found:
        assert await post(small, body(451)) == 200
    assert found == []
    entry = next(one for one in await entries(small) if one.account_id == small.ours.account.id)
    assert "the callback has more than 450 events" in entry.reason
    with inserts(small.gateway.database, "callbacks") as found:
        await small.gateway.services.replays.replay_of_any(entry.id)  # a person says so
    assert 0 < max(found) <= inbox_module.GROUP


async def test_a_group_with_a_bad_event_keeps_its_body_once(small: Harness) -> None:
    def refuse(connection: sa.Connection) -> None:
        connection.exec_driver_sql(
            "CREATE TRIGGER poison BEFORE INSERT ON incoming WHEN NEW.text = 'poison' "
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
        )

    await small.gateway.database.write(refuse)
    messages = [message(f"wamid.{n}", text={"body": "poison" if n == 20 else "halo"}) for n in range(40)]
    with capture_logs():
        assert await post(small, json.dumps(callback(small, change(small, messages=messages))).encode()) == 200
    assert len(await stored(small)) == 39
    bodies = await small.gateway.database.read(lambda c: list(c.scalars(sa.select(callbacks.c.body))))
    assert sorted(map(bool, bodies)) == [False] * 38 + [True]


# -- large bodies ------------------------------------------------------------------------------------------------------


class Held:
    """`taken_apart` waits, in the threads where it runs, until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._go = threading.Event()
        self.threads: list[str] = []
        self.under_way: Counter[int] = Counter()
        original = service.taken_apart

        def held(body: bytes, signers: Any, now: float) -> Any:
            self.threads.append(threading.current_thread().name)
            if threading.current_thread() is not threading.main_thread():
                self.under_way[signers[0].account_id] += 1
                assert self._go.wait(20)
            return original(body, signers, now)

        monkeypatch.setattr(service, "taken_apart", held)

    def let_go(self) -> None:
        self._go.set()

    async def until(self, account_id: int) -> None:
        async with asyncio.timeout(10):
            while not self.under_way[account_id]:
                await asyncio.sleep(0.01)


def large(harness: Harness, size: int, official: Any = None, *, name: str = "x") -> bytes:
    one = change(harness, messages=[message(f"wamid.{name}")])
    if official is not None:
        one["value"]["metadata"]["phone_number_id"] = official.phone_number_id
    body = callback(harness, one)
    body["entry"][0]["id"] = "1"
    raw = json.dumps(body).encode()
    return raw + b" " * (size - len(raw))


async def test_large_bodies_are_taken_apart_beside_the_loop_and_accounts_take_turns(
    small: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    ours, theirs = small.ours, small.theirs
    try:
        mine = [
            asyncio.create_task(post(small, large(small, size, ours.official, name=f"a{size}")))
            for size in (20_000, 300_000, 2_000_000)
        ]
        await held.until(ours.account.id)
        # a small one is read while they are at it, and another account's large one has its turn
        assert await post(small, large(small, 2_000, ours.official, name="b")) == 200
        other = asyncio.create_task(post(small, large(small, 300_000, theirs.official, name="c")))
        await held.until(theirs.account.id)
        assert held.under_way[ours.account.id] == 1
        assert not any(one.done() for one in (*mine, other))
    finally:
        held.let_go()
    assert await asyncio.gather(*mine, other) == [200] * 4
    assert held.threads.count(threading.main_thread().name) == 1
    assert await stored(small) == {f"wamid.{name}" for name in ("a20000", "a300000", "a2000000", "b", "c")}


async def test_a_large_signed_body_has_its_place_until_it_is_stored(
    small: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    seen = 0
    original = service.Callbacks.take_apart

    async def noted(callbacks: service.Callbacks, *what: Any) -> Any:
        nonlocal seen
        seen += 1
        return await original(callbacks, *what)

    monkeypatch.setattr(service.Callbacks, "take_apart", noted)
    ours, under_way = small.ours.official, []
    async with client_at(small, "198.51.100.7") as insider:
        assert await post(small, large(small, 2_000, name="y"), client=insider) == 200
        try:
            for n in range(16):  # as many as have a place, of a source of which signed ones have come
                raw = large(small, 300_000, ours, name=f"{n}")
                under_way.append(asyncio.create_task(post(small, raw, client=insider)))
                async with asyncio.timeout(10):
                    while seen < n + 2:  # its signature has been found right
                        await asyncio.sleep(0.01)
            async with asyncio.timeout(10):  # refused at once: it does not wait behind the others
                assert await post(small, large(small, 300_000, ours, name="z"), client=insider) == 503
            assert await post(small, large(small, 2_000, name="x"), client=insider) == 200
        finally:
            held.let_go()
        assert await asyncio.gather(*under_way) == [200] * 16
        assert await post(small, large(small, 300_000, ours, name="z"), client=insider) == 200


# -- raw callbacks -----------------------------------------------------------------------------------------------------


async def raw_bodies(harness: Harness, account_id: int) -> list[str]:
    kept = sa.select(callbacks.c.body).where(callbacks.c.account_id == account_id).order_by(callbacks.c.id)
    return await harness.gateway.database.read(lambda c: list(c.scalars(kept)))


async def test_of_an_accounts_raw_callbacks_the_newest_are_kept_and_no_others_go(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_callbacks, "MOST", 1_000_000)
    monkeypatch.setattr(raw_callbacks, "_AT_ONCE", 150_000)
    neighbour = change(harness, "calls", event="theirs")
    neighbour["value"]["metadata"]["phone_number_id"] = harness.theirs.official.phone_number_id
    assert await post(harness, json.dumps({"entry": [{"id": "1", "changes": [neighbour]}]}).encode()) == 200
    event = json.dumps(callback(harness, change(harness, messages=[message("wamid.e")], x="x" * 50_000))).encode()
    assert await post(harness, event) == 200
    for n in range(40):
        raw = json.dumps(callback(harness, change(harness, "calls", n=f"n{n}.", x="x" * 50_000))).encode()
        assert await post(harness, raw) == 200
        assert sum(map(len, await raw_bodies(harness, harness.ours.account.id))) <= 1_100_000
    left = await raw_bodies(harness, harness.ours.account.id)
    assert 17 <= len(left) <= 22
    assert left[0] == "", "an event's row is kept, by which it is recognised when Meta repeats it"
    numbers = [n for n in range(40) if any(f'"n{n}."' in body for body in left)]
    assert numbers == list(range(40 - len(left) + 1, 40)), "the oldest go first"
    assert len(await raw_bodies(harness, harness.theirs.account.id)) == 1
    assert await post(harness, event) == 200
    assert await stored(harness) == {"wamid.e"}
    assert 'kurir_callbacks_total{result="duplicate"} 1.0' in harness.gateway.metrics.render().decode()
    assert len(await raw_bodies(harness, harness.ours.account.id)) == len(left), "nor is it kept again"


async def test_many_small_raw_callbacks_are_bounded_too(small: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_callbacks, "MOST", 50_000)
    for n in range(400):
        assert await post(small, b"{}" + b" " * n) == 200
    assert len(await raw_bodies(small, small.ours.account.id)) <= 55_000 // 250


async def test_what_was_there_before_a_start_is_bounded_by_the_next_round(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(20):
        raw = json.dumps(callback(harness, change(harness, "calls", n=n, x="x" * 50_000))).encode()
        assert await post(harness, raw) == 200
    database, ours = harness.gateway.database, harness.ours.account.id
    assert await raw_callbacks.bound_all(database) == 0
    monkeypatch.setattr(raw_callbacks, "MOST", 500_000)
    assert await raw_callbacks.bound_all(database) == 12
    assert len(await raw_bodies(harness, ours)) == 8
    assert await raw_callbacks.bound_all(database) == 0


async def test_the_sizes_are_read_from_their_index(small: Harness) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT") and "callbacks" in statement:
            asked.append((statement, parameters))

    database = small.gateway.database
    sa.event.listen(database.engine, "before_cursor_execute", note)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw_callbacks, "MOST", 100)
        await post(small, json.dumps(callback(small, change(small, "calls"))).encode())
        await raw_callbacks.bound_all(database)
    sa.event.remove(database.engine, "before_cursor_execute", note)
    assert len(asked) >= 3
    for statement, parameters in asked:
        plan = await database.read(
            lambda c, s=statement, p=parameters: c.exec_driver_sql(f"EXPLAIN QUERY PLAN {s}", p).all()
        )
        assert "USING COVERING INDEX ix_callbacks_raw" in str(plan), (statement, plan)
