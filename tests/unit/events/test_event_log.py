"""The event log: one row in the transaction of the change, in order, read by cursor without a gap by whoever asks."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from tests.harness.outbox import OutboxHarness, open_outbox_harness

from kurir.accounts.tables import accounts
from kurir.events import read, retention
from kurir.events.append import append
from kurir.events.bodies import OtpGuessing
from kurir.events.feed import Feed
from kurir.events.tables import events
from kurir.messages.channel_reports import ConnectionChanged
from kurir.numbers import status
from kurir.reasons import sentence
from kurir.reasons.numbers import REMOVED_BY_PHONE
from kurir.store import ordered_appends
from kurir.store.database import LONG_WORK, BadValue, Database
from kurir.store.ordered_appends import OrderedBatch


@pytest.fixture
async def harness(where: Path | str) -> AsyncIterator[OutboxHarness]:
    """An account on a database of each kind."""
    async with open_outbox_harness(where) as opened:
        yield opened


def happen(connection: Connection, account_id: int, what: str, number_id: int = 1) -> None:
    """Something happens to an account; the event says what."""
    body = OtpGuessing(number_id="BO-1", checked_by=what, wrong_checks=1, timestamp=1)
    append(connection, account_id, number_id, "otp_guessing", what, body=lambda: body, now=1.0)


def texts(page: read.Page) -> list[str]:
    return [json.loads(event.body)["data"]["checked_by"] for event in page.events]


async def page(database: Database, account_id: int, cursor: int = 0, limit: int = 500) -> read.Page:
    return await database.read(lambda c: read.after(c, account_id, cursor, limit))


@contextmanager
def statements(database: Database, beginning: str) -> Iterator[list[str]]:
    """The statements that begin so, as long as this lasts."""
    found: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if statement.startswith(beginning):
            found.append(statement)

    sa.event.listen(database.engine, "before_cursor_execute", note)
    yield found
    sa.event.remove(database.engine, "before_cursor_execute", note)


# -- appended ----------------------------------------------------------------------------------------------------------


async def test_all_events_of_a_transaction_are_one_statement_at_its_end(harness: OutboxHarness) -> None:
    account_id, began, may_go = harness.number.account_id, threading.Event(), threading.Event()

    def first(connection: Connection) -> None:
        began.set()
        may_go.wait(10.0)
        happen(connection, account_id, "0")

    with statements(harness.database, "INSERT INTO events") as inserts:
        slow = asyncio.ensure_future(harness.database.write(first))
        await asyncio.to_thread(began.wait, 10.0)
        together = [
            asyncio.ensure_future(harness.database.write(lambda c, n=n: happen(c, account_id, f"{n}")))
            for n in range(1, 51)
        ]
        await asyncio.sleep(0)  # they are all handed in
        may_go.set()
        await asyncio.gather(slow, *together)
    assert len(inserts) == 2  # the first work's transaction, and that of the fifty who waited
    assert texts(await page(harness.database, account_id)) == [f"{n}" for n in range(51)]


async def test_an_event_keeps_the_language_of_its_moment(harness: OutboxHarness) -> None:
    """Its row is what webhooks post: every retry sends the same bytes."""
    account_id, number_id = harness.number.account_id, harness.number.id

    async def bodies(language: str, state: str) -> list[str]:
        moved = ConnectionChanged(account_id, number_id, state, REMOVED_BY_PHONE(), 1.0)

        def work(connection: Connection) -> None:
            connection.execute(accounts.update().values(language=language))
            status.change(connection, moved, 1.0)

        await harness.database.write(work)
        return [event.body for event in (await page(harness.database, account_id)).events]

    (first,) = await bodies("id", "logged_out")
    again, second = await bodies("en", "paused")
    assert again == first
    found = [json.loads(body)["data"] for body in (first, second)]
    assert [one["reason"] for one in found] == [sentence(REMOVED_BY_PHONE(), language) for language in ("id", "en")]
    assert [one["reason_code"] for one in found] == ["removed_by_phone"] * 2


async def test_what_is_undone_leaves_no_event_and_its_neighbours_keep_theirs(harness: OutboxHarness) -> None:
    account_id = harness.number.account_id

    def undone(connection: Connection) -> None:
        happen(connection, account_id, "undone")
        raise RuntimeError("undone")

    works = [lambda c: happen(c, account_id, "before"), undone, lambda c: happen(c, account_id, "after")]
    results = await asyncio.gather(*(harness.database.write(work) for work in works), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), RuntimeError, type(None)]
    assert texts(await page(harness.database, account_id)) == ["before", "after"]
    with pytest.raises(RuntimeError), harness.database.transaction() as connection:
        undone(connection)
    assert texts(await page(harness.database, account_id)) == ["before", "after"]


async def test_a_command_s_transaction_appends_too(harness: OutboxHarness) -> None:
    with harness.database.transaction() as connection:
        happen(connection, harness.number.account_id, "by hand")
    assert texts(await page(harness.database, harness.number.account_id)) == ["by hand"]


async def test_a_row_that_the_database_refuses_at_the_end_fails_its_own_work_only(harness: OutboxHarness) -> None:
    """The row is refused after all works of the group are done: the others are committed, none is left hanging."""
    account_id = harness.number.account_id
    odd = OrderedBatch(events, ["account_id", "number_id", "key", "type", "chat", "body", "created_at"])
    key = "evt_twice"

    def work(connection: Connection) -> None:
        ordered_appends.append(connection, odd, (account_id, 1, key, "otp_guessing", "", "{}", 1.0))

    await harness.database.write(work)
    fine = [lambda c, n=n: happen(c, account_id, f"{n}") for n in range(3)]
    results = await asyncio.gather(
        *(harness.database.write(one) for one in (fine[0], fine[1], work, fine[2])), return_exceptions=True
    )
    assert [isinstance(result, sa.exc.IntegrityError) for result in results] == [False, False, True, False]
    found = await page(harness.database, account_id)
    assert Counter(event.chat for event in found.events) == Counter(["", "0", "1", "2"])
    # no text at all is refused when it is handed in
    with pytest.raises(BadValue):
        await harness.database.write(
            lambda c: ordered_appends.append(c, odd, (account_id, 1, "\ud800", "", "", "{}", 1.0))
        )


async def test_events_are_appended_in_transactions_of_the_database_only(harness: OutboxHarness) -> None:
    database, account_id = harness.database, harness.number.account_id
    with pytest.raises(ZeroDivisionError), database.transaction() as connection:
        happen(connection, account_id, "undone")
        raise ZeroDivisionError
    with database.transaction():  # its connection goes back to the pool, for the look below
        pass
    batch = OrderedBatch(events, ["account_id"])
    with pytest.raises(RuntimeError, match="transaction of Database"):
        await database.read(lambda c: ordered_appends.append(c, batch, (1,)))
    with database.snapshot() as connection, pytest.raises(RuntimeError, match="transaction of Database"):
        ordered_appends.append(connection, batch, (1,))


# -- read --------------------------------------------------------------------------------------------------------------


async def test_pages_follow_each_other_whatever_types_are_wanted(harness: OutboxHarness) -> None:
    account_id, other = harness.number.account_id, harness.number.account_id + 1

    def work(connection: Connection) -> None:
        for n in range(7):
            happen(connection, account_id, f"{n}")
            happen(connection, other, f"other {n}")

    await harness.database.write(work)
    cursor, found = 0, []
    while (one := await page(harness.database, account_id, cursor, limit=3)).events:
        assert len(one.events) <= 3
        found += texts(one)
        cursor = one.cursor
    assert found == [f"{n}" for n in range(7)]
    assert await harness.database.read(lambda c: read.newest(c, account_id)) == cursor
    # of other types there is nothing: the reader need not look through all this again
    none = await harness.database.read(lambda c: read.after(c, account_id, 0, types=["device_status"]))
    assert (none.events, none.cursor, none.more) == ([], cursor, False)


async def test_ids_are_not_used_again_when_everything_was_forgotten(harness: OutboxHarness) -> None:
    account_id = harness.number.account_id
    await harness.database.write(lambda c: happen(c, account_id, "old"))
    cursor = (await page(harness.database, account_id)).cursor
    assert await retention.forget(harness.database, 2.0) == 1
    await harness.database.write(lambda c: happen(c, account_id, "new"))
    assert texts(await page(harness.database, account_id, cursor)) == ["new"]


async def test_a_reader_who_follows_hears_at_once_and_of_its_account_only(harness: OutboxHarness) -> None:
    account_id = harness.number.account_id
    feed = Feed(harness.database)
    notified: list[frozenset[int]] = []
    harness.database.appended = lambda keys: (notified.append(keys), feed.publish(keys))[0]
    await harness.database.write(lambda c: happen(c, account_id, "first"))
    following = feed.follow(account_id, 0)
    heard = [json.loads((await anext(following)).body)["data"]["checked_by"]]
    waiting = asyncio.ensure_future(anext(following))
    await harness.database.write(lambda c: happen(c, account_id + 1, "another account's"))
    await harness.database.write(lambda c: happen(c, account_id, "second"))
    # the feed does not look by itself here: it was not started
    heard.append(json.loads((await asyncio.wait_for(waiting, 10.0)).body)["data"]["checked_by"])
    assert heard == ["first", "second"]
    assert notified == [frozenset({account_id}), frozenset({account_id + 1}), frozenset({account_id})]
    await following.aclose()  # type: ignore[attr-defined]


async def test_what_another_program_has_written_is_heard_by_the_look_for_all(
    harness: OutboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kurir.events.feed.POLL", 0.05)
    account_id = harness.number.account_id
    feed = Feed(harness.database)
    feed.start()
    following = feed.follow(account_id, 0)
    waiting = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)

    def manual() -> None:
        with harness.database.transaction() as connection:
            happen(connection, account_id, "by hand")

    await asyncio.to_thread(manual)
    assert (await asyncio.wait_for(waiting, 10.0)).chat == "by hand"
    await following.aclose()  # type: ignore[attr-defined]
    await feed.close()


# -- several writers ---------------------------------------------------------------------------------------------------


class Slow:
    """A gateway whose commits are delayed, some more and some less, right before they are sent."""

    def __init__(self, url: str, seed: int) -> None:
        self.database = Database(url)
        self._delays = itertools.cycle([*[0.0, 0.03, 0.0, 0.01, 0.05][seed:], 0.0, 0.02])
        sa.event.listen(self.database.engine, "before_cursor_execute", self._delay)

    def _delay(self, _connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if statement == "COMMIT":
            threading.Event().wait(next(self._delays))


async def test_no_reader_misses_what_was_committed_late_by_another_gateway(postgres) -> None:
    """Two gateways append to the same accounts while their commits are held up; a reader follows by cursor."""
    url = postgres.new_database("kurir")
    gateways = [Slow(url, 0), Slow(url, 2)]
    reader = Database(url)
    for database in (*(gateway.database for gateway in gateways), reader):
        await database.start()
    rounds, accounts = 60, (1, 2, 300)
    found: dict[int, list[str]] = {account: [] for account in accounts}
    ids: dict[int, list[int]] = {account: [] for account in accounts}
    done = False

    async def write(which: int) -> None:
        database = gateways[which].database
        for n in range(rounds):
            # several works, so that groups of different size and different accounts come about
            works = [
                database.write(lambda c, a=a, n=n: happen(c, a, f"{which}/{n}"), timeout=LONG_WORK) for a in accounts
            ]
            await asyncio.gather(*works if n % 3 else reversed(works))

    async def follow(account: int) -> None:
        cursor = 0
        while True:
            last_look = done
            one = await page(reader, account, cursor, limit=7)
            found[account] += texts(one)
            ids[account] += [event.id for event in one.events]
            cursor = one.cursor
            if last_look and not one.events:
                return

    reading = [asyncio.ensure_future(follow(account)) for account in accounts]
    await asyncio.gather(write(0), write(1))
    done = True
    await asyncio.wait_for(asyncio.gather(*reading), 30.0)
    for account in accounts:
        assert Counter(found[account]) == Counter(f"{g}/{n}" for g in (0, 1) for n in range(rounds))
        assert ids[account] == sorted(ids[account])
        for gateway in ("0", "1"):
            mine = [int(one.split("/")[1]) for one in found[account] if one.startswith(gateway + "/")]
            assert mine == sorted(mine)
    for database in (*(gateway.database for gateway in gateways), reader):
        await database.close()
    postgres.drop(url)


async def test_transactions_that_touch_the_same_accounts_in_other_orders_do_not_block_each_other(postgres) -> None:
    url = postgres.new_database("kurir")
    databases = [Database(url), Database(url)]
    for database in databases:
        await database.start()
    accounts = list(range(1, 40))
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with databases[0].engine.connect() as blocker, databases[0].engine.connect() as watch:
        # both get as far as they can before they meet: in different orders each would hold what the other needs
        blocker.exec_driver_sql("SELECT pg_advisory_lock(%s, %s)", (ordered_appends.LOCK_SPACE, 20))
        with statements(databases[0], "ROLLBACK") as one, statements(databases[1], "ROLLBACK") as two:
            writes = [
                asyncio.ensure_future(database.write(lambda c, o=order: [happen(c, a, "x") for a in o] and None))
                for database, order in zip(databases, (accounts, accounts[::-1]), strict=True)
            ]
            async with asyncio.timeout(10.0):
                while await asyncio.to_thread(lambda: watch.exec_driver_sql(waits).scalar()) != 2:
                    await asyncio.sleep(0.01)
            blocker.exec_driver_sql("SELECT pg_advisory_unlock_all()")
            await asyncio.wait_for(asyncio.gather(*writes), timeout=20.0)
    assert [statement for statement in one + two if statement == "ROLLBACK"] == []  # no deadlock had to be broken
    for database in databases:
        await database.close()
    postgres.drop(url)
