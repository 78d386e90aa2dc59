"""The feed: however many readers wait, an account's new events are read once, and nobody misses one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from tests.harness.outbox import OutboxHarness, open_outbox_harness

from kurir.events import feed as feeds
from kurir.events.append import append
from kurir.events.bodies import EventType, OtpGuessing
from kurir.events.feed import Feed
from kurir.events.read import Page
from kurir.store.database import DatabaseUnavailable, Pool

GUESSING: EventType = "otp_guessing"
OTHER: EventType = "device_status"


@pytest.fixture
async def harness(where: Path | str) -> AsyncIterator[OutboxHarness]:
    """An account on a database of each kind."""
    async with open_outbox_harness(where) as opened:
        yield opened


class Counted(Feed):
    """Counts what is read for all waiting readers, and for a single one."""

    def __init__(self, harness: OutboxHarness) -> None:
        super().__init__(harness.database)
        self.for_all, self.for_one = 0, 0
        self.away = False
        harness.database.appended = self.publish

    async def page(
        self, account_id: int, cursor: int, types: Collection[EventType], limit: int, pool: Pool = "work"
    ) -> Page:
        if pool == "lists":
            self.for_one += 1
        else:
            self.for_all += 1
            if self.away:
                raise DatabaseUnavailable("away")
        return await super().page(account_id, cursor, types, limit, pool)


def event(connection: Connection, account_id: int, what: str, kind: EventType) -> None:
    body = OtpGuessing(number_id="BO-1", checked_by=what, wrong_checks=1, timestamp=1)
    append(connection, account_id, 1, kind, what, body=lambda: body, now=1.0)


async def happen(harness: OutboxHarness, *names: str, kind: EventType = GUESSING) -> None:
    """Each in a transaction of its own."""
    for name in names:
        await harness.database.write(lambda c, name=name: event(c, harness.number.account_id, name, kind))


async def heard(feed: Feed, account_id: int, count: int, types: Collection[EventType] = ()) -> list[str]:
    found: list[str] = []
    async for one in feed.follow(account_id, 0, types=types):
        found.append(one.chat)
        if len(found) == count:
            break
    return found


async def until_all_wait(feed: Feed, readers: int) -> None:
    async with asyncio.timeout(20):
        while sum(len(account.waiting) for account in feed._accounts.values()) < readers:
            await asyncio.sleep(0.005)


async def test_events_are_read_once_however_many_wait(harness: OutboxHarness) -> None:
    feed, names = Counted(harness), [f"event {i}" for i in range(40)]
    readers = [asyncio.ensure_future(heard(feed, harness.number.account_id, len(names))) for _ in range(100)]
    await until_all_wait(feed, 100)
    assert (feed.for_one, feed.for_all) == (100, 0)
    await happen(harness, *names)
    assert await asyncio.wait_for(asyncio.gather(*readers), 20) == [names] * 100
    assert feed.for_one == 100
    assert 1 <= feed.for_all <= len(names) + 1
    await feed.close()


async def test_what_is_published_at_once_is_one_look(harness: OutboxHarness) -> None:
    feed, account_id = Counted(harness), harness.number.account_id
    readers = [asyncio.ensure_future(heard(feed, account_id, 3)) for _ in range(20)]
    await until_all_wait(feed, 20)

    def together(connection: Connection) -> None:
        for name in ("a", "b", "c"):
            event(connection, account_id, name, GUESSING)

    await harness.database.write(together)
    for _ in range(200):
        feed.publish([account_id])
    assert await asyncio.wait_for(asyncio.gather(*readers), 20) == [["a", "b", "c"]] * 20
    assert feed.for_all == 1
    await feed.close()


async def test_after_a_quiet_time_nobody_is_kept_waiting_for_more(
    harness: OutboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "GATHERED", 3_600.0)
    feed = Counted(harness)
    reader = asyncio.ensure_future(heard(feed, harness.number.account_id, 1))
    await until_all_wait(feed, 1)
    await happen(harness, "a")
    assert await asyncio.wait_for(reader, 10) == ["a"]
    await feed.close()


async def test_who_wants_other_types_is_not_disturbed_and_goes_on_behind_them(harness: OutboxHarness) -> None:
    feed, account_id = Counted(harness), harness.number.account_id
    everything = asyncio.ensure_future(heard(feed, account_id, 30))
    with feed.subscribe(account_id, 0, types=[OTHER]) as reader:
        waiting = asyncio.ensure_future(reader.next(None))
        await until_all_wait(feed, 2)
        await happen(harness, *[f"{i}" for i in range(30)])
        await asyncio.wait_for(everything, 20)
        assert not waiting.done()
        await happen(harness, "wanted", kind=OTHER)
        page = await asyncio.wait_for(waiting, 10)
        assert [one.chat for one in page.events] == ["wanted"]
        assert feed.for_one == 2
        # the cursor of an empty answer is behind what was passed over
        waiting = asyncio.ensure_future(reader.next(0.3))
        await happen(harness, "unwanted")
        empty = await asyncio.wait_for(waiting, 10)
        assert (empty.events, empty.more) == ([], False)
        assert empty.cursor > page.cursor
    await feed.close()


async def test_readers_at_different_cursors_and_with_small_pages_get_all(harness: OutboxHarness) -> None:
    feed, account_id = Counted(harness), harness.number.account_id
    names = [f"event {i}" for i in range(25)]

    async def by_pages(limit: int) -> list[str]:
        found: list[str] = []
        with feed.subscribe(account_id, 0, limit=limit) as reader:
            while len(found) < len(names):
                page = await reader.next(10)
                assert len(page.events) <= limit
                found += [one.chat for one in page.events]
        return found

    readers = [asyncio.ensure_future(by_pages(limit)) for limit in (1, 2, 7, 500)]
    await until_all_wait(feed, 4)

    def together(connection: Connection) -> None:
        for name in names[:20]:
            event(connection, account_id, name, GUESSING)

    await harness.database.write(together)
    await happen(harness, *names[20:])
    assert await asyncio.wait_for(asyncio.gather(*readers), 20) == [names] * 4
    await feed.close()


async def test_a_look_at_more_than_it_reads_at_once_goes_on(
    harness: OutboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "_AT_ONCE", 3)
    feed, account_id = Counted(harness), harness.number.account_id
    names = [f"event {i}" for i in range(10)]
    with feed.subscribe(account_id, 0, types=[OTHER], limit=500) as reader:
        waiting = asyncio.ensure_future(reader.next(None))
        everything = asyncio.ensure_future(heard(feed, account_id, 11))
        await until_all_wait(feed, 2)

        def together(connection: Connection) -> None:
            for name in names:
                event(connection, account_id, name, GUESSING)
            event(connection, account_id, "wanted", OTHER)

        await harness.database.write(together)
        assert [one.chat for one in (await asyncio.wait_for(waiting, 10)).events] == ["wanted"]
        assert await asyncio.wait_for(everything, 10) == [*names, "wanted"]
    await feed.close()


async def test_an_event_between_the_read_and_the_wait_is_not_missed(harness: OutboxHarness) -> None:
    """It becomes visible after the reader has read, and is published before it waits."""
    feed, account_id = Counted(harness), harness.number.account_id
    reads = feed.page

    async def interrupted(*arguments: Any, pool: Any = "work") -> Page:
        page = await reads(*arguments, pool=pool)
        if pool == "lists":
            await happen(harness, "in between")
        return page

    feed.page = interrupted  # type: ignore[method-assign]
    assert await asyncio.wait_for(heard(feed, account_id, 1), 10) == ["in between"]
    await feed.close()


async def test_a_database_that_is_away_delays_but_loses_nothing(
    harness: OutboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "_AGAIN", 0.01)
    feed = Counted(harness)
    reader = asyncio.ensure_future(heard(feed, harness.number.account_id, 2))
    await until_all_wait(feed, 1)
    feed.away = True
    await happen(harness, "a", "b")
    async with asyncio.timeout(10):
        while feed.for_all < 3:
            await asyncio.sleep(0.005)
    feed.away = False
    assert await asyncio.wait_for(reader, 10) == ["a", "b"]
    await feed.close()


async def test_nobody_misses_or_repeats_anything_whatever_comes_when(harness: OutboxHarness) -> None:
    """Readers that come, wait shortly, leave and come back with their cursor, beside a steady stream."""
    feed, account_id, chance = Counted(harness), harness.number.account_id, random.Random(7)
    names = [f"event {i}" for i in range(60)]
    both: list[EventType] = [GUESSING, OTHER]
    kinds: dict[str, EventType] = {name: chance.choice(both) for name in names}

    async def come_and_go(types: Collection[EventType], seed: int) -> list[str]:
        own, cursor, found = random.Random(seed), 0, list[str]()
        wanted = [name for name in names if not types or kinds[name] in types]
        while len(found) < len(wanted):
            with feed.subscribe(account_id, cursor, types=types, limit=own.randint(1, 5)) as reader:
                page = await reader.next(own.choice([0.001, 0.005, 0.02, 0.2]))
            cursor = page.cursor
            found += [one.chat for one in page.events]
        assert found == wanted
        return found

    choices: list[Collection[EventType]] = [(), [GUESSING], [OTHER]]
    readers = [asyncio.ensure_future(come_and_go(choices[i % 3], i)) for i in range(12)]
    for name in names:
        await happen(harness, name, kind=kinds[name])
        if chance.random() < 0.2:
            await asyncio.sleep(0.01)
    await asyncio.wait_for(asyncio.gather(*readers), 30)
    await feed.close()
