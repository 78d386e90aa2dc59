"""Who carries which number: shared out evenly, handed over in order, taken from the dead, never carried by two."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.postgres import Postgres

from kurir.accounts import accounts
from kurir.leases import Alone, LeaseHandlers, Leases, statements
from kurir.leases import leases as leases_module
from kurir.leases.tables import gateways, leases
from kurir.numbers import numbers
from kurir.store.database import Database
from kurir.store.pg_notify import Notification, NotifyChannel

NUMBERS = 6
SOON = 15.0


@dataclass
class Member:
    """A gateway of the test: its leases, and what it was told to begin and to end."""

    database: Database
    leases: Leases
    begun: list[int] = field(default_factory=list)
    ended: list[tuple[int, bool]] = field(default_factory=list)
    released: Callable[[], None] = lambda: None
    staying: set[int] = field(default_factory=set)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_end.set()

    async def begin(self, _account_id: int, number_id: int) -> None:
        self.begun.append(number_id)

    async def end(self, number_id: int, orderly: bool) -> None:
        await self.may_end.wait()
        self.ended.append((number_id, orderly))

    async def start(self) -> None:
        await self.leases.start(
            LeaseHandlers(self.begin, self.end, lambda number_id: number_id not in self.staying, self.released)
        )


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    url = postgres.new_database("kurir")
    yield url
    postgres.drop(url)


@pytest.fixture
async def gateway(url: str, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Member]]]:
    """Makes gateways on one database with six numbers; they beat every 50 ms and live 2 s after their last."""
    async with AsyncExitStack() as stack:
        first = Database(url)
        await first.start()
        stack.push_async_callback(first.close)

        def work(connection: sa.Connection) -> None:
            account = accounts.create(connection, name="a", email="a@example.com")
            for _ in range(NUMBERS):
                numbers.add_linked_device(connection, account.id)

        await first.write(work)

        async def make(name: str, lease: float = 2.0, heartbeat: float = 0.05) -> Member:
            database = Database(url)
            await database.start()
            stack.push_async_callback(database.close)
            made = Leases(database, tmp_path / name, f"http://{name}", lease=lease, heartbeat=heartbeat)
            stack.push_async_callback(made.close)
            return Member(database, made)

        yield make


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.01)


async def holders(member: Member) -> dict[int, str]:
    """What the database says: by number the address of its gateway."""
    live = sa.select(leases.c.number_id, gateways.c.url).join(gateways, gateways.c.key == leases.c.gateway)
    return await member.database.read(lambda c: {row[0]: row[1] for row in c.execute(live)})


async def kill(member: Member) -> None:
    """Stops its heart, and lets its lease run out."""
    await member.leases._tasks.close()
    gone = sa.text("UPDATE gateways SET expires_at = 0 WHERE key = :me")
    await member.database.write(lambda c: c.execute(gone, {"me": member.leases._me}) and None)


async def test_alone_it_holds_everything(gateway) -> None:
    one = await gateway("one")
    await one.start()
    await until(lambda: len(one.begun) == NUMBERS)
    assert one.leases.held() == sorted(one.begun)
    assert all(one.leases.hold(number) for number in one.begun)
    assert await one.leases.holder(one.begun[0]) == "http://one"


async def test_a_second_one_gets_its_share_only_after_the_first_has_ended_it(gateway) -> None:
    one, two = await gateway("one"), await gateway("two")
    await one.start()
    one.may_end.clear()
    await two.start()
    await until(lambda: len(one.leases._leaving) == NUMBERS // 2)
    assert two.begun == []  # what the first one still carries is not taken
    assert len(one.leases.held()) == NUMBERS
    one.may_end.set()
    await until(lambda: len(two.begun) == NUMBERS // 2)
    assert sorted(one.ended) == [(number, True) for number in sorted(two.begun)]
    assert sorted(one.leases.held() + two.leases.held()) == sorted(one.begun)
    assert sorted((await holders(one)).values()) == ["http://one"] * 3 + ["http://two"] * 3


async def test_a_third_one_takes_from_both(gateway) -> None:
    members = [await gateway(name) for name in ("one", "two", "three")]
    for member in members:
        await member.start()
    await until(lambda: [len(member.leases.held()) for member in members] == [2, 2, 2])
    held = [number for member in members for number in member.leases.held()]
    assert len(set(held)) == NUMBERS


async def test_the_numbers_of_a_dead_gateway_move_and_its_fence_holds(gateway) -> None:
    dead, heir = await gateway("dead", heartbeat=60.0), await gateway("heir")
    await dead.start()
    number = dead.leases.held()[0]
    hold = dead.leases.hold(number)
    assert hold is not None
    assert await dead.database.write(hold.guard)
    await kill(dead)
    await heir.start()
    await until(lambda: len(heir.begun) == NUMBERS)
    assert hold.valid()  # by its own clock it does not know yet
    assert not await dead.database.write(hold.guard)
    heirs = heir.leases.hold(number)
    assert heirs is not None
    assert heirs.inherited
    assert await heir.database.write(heirs.guard)
    await dead.leases._extend()
    await until(lambda: len(dead.ended) == NUMBERS)
    assert not any(orderly for _, orderly in dead.ended)
    assert not hold.valid()
    assert dead.leases.hold(number) is None


async def test_a_heartbeat_that_was_held_up_for_long_gives_its_new_name_full_time(
    gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await gateway("one", lease=5.0, heartbeat=60.0)
    await one.start()
    number = one.leases.held()[0]
    renew, shift = statements.renew, 0.0
    now = leases_module._now
    monkeypatch.setattr(leases_module, "_now", lambda: now() + shift)

    def frozen(connection: sa.Connection, me: str, lease: float) -> bool:
        nonlocal shift
        shift = 30.0
        connection.execute(gateways.delete())  # another one has struck it off meanwhile
        return renew(connection, me, lease)

    monkeypatch.setattr(statements, "renew", frozen)
    await one.leases._extend()
    assert one.leases.hold(number) is not None


async def test_without_heartbeats_it_stops_by_its_own_clock_before_others_may_take(gateway) -> None:
    cut_off, heir = await gateway("cut off", lease=3.0, heartbeat=60.0), await gateway("heir")
    await cut_off.start()
    number = cut_off.leases.held()[0]
    stopped_at = asyncio.create_task(moment(lambda: cut_off.leases.hold(number) is None))
    await heir.start()
    taken_at = asyncio.create_task(moment(lambda: len(heir.leases.held()) == NUMBERS))
    assert await stopped_at < await taken_at
    await until(lambda: len(cut_off.ended) == NUMBERS)
    assert all(not orderly for _, orderly in cut_off.ended)


async def moment(condition: Callable[[], bool]) -> float:
    await until(condition)
    return asyncio.get_running_loop().time()


async def test_a_takeover_waits_for_a_claim_under_way(gateway) -> None:
    old, heir = await gateway("old", heartbeat=60.0), await gateway("heir", heartbeat=0.05)
    await old.start()
    hold = old.leases.hold(old.leases.held()[0])
    assert hold is not None
    inside, done = threading.Event(), threading.Event()
    seen: list[bool] = []

    def claim(connection: sa.Connection) -> None:
        seen.append(hold.guard(connection))
        inside.set()
        done.wait(SOON)

    claiming = asyncio.create_task(old.database.write(claim))
    await asyncio.to_thread(inside.wait, SOON)
    other = Database(old.database.where)
    with other.transaction() as connection:
        connection.execute(gateways.delete())
    other.engine.dispose()
    starting = asyncio.create_task(heir.start())
    await until(lambda: bool(heir.leases._me))
    await asyncio.wait({starting}, timeout=0.3)
    assert heir.leases.held() == []
    done.set()
    await asyncio.gather(claiming, starting)
    await until(lambda: len(heir.leases.held()) == NUMBERS)
    assert seen == [True]


async def test_it_ends_in_order_and_its_next_life_takes_over_at_once(gateway) -> None:
    one, other = await gateway("one", lease=60.0), await gateway("other", lease=60.0)
    await one.start()
    await one.leases.close()
    await other.start()
    assert len(other.leases.held()) == NUMBERS
    await other.leases._tasks.close()  # killed: it can give nothing back
    again = await gateway("other", lease=60.0)  # the same data folder, whose lock says that the first one is dead
    await again.start()
    assert len(again.leases.held()) == NUMBERS


async def test_one_number_is_taken_on_demand_beyond_the_share(gateway) -> None:
    one, two = await gateway("one", heartbeat=60.0), await gateway("two", heartbeat=60.0)
    await one.start()
    await two.start()
    assert not await two.leases.take(one.leases.held()[0])

    def work(connection: sa.Connection) -> int:
        return numbers.add_linked_device(connection, accounts.list_all(connection)[0].id).id

    new = await one.database.write(work)
    assert await two.leases.take(new)
    assert two.begun == [new]
    assert not await one.leases.take(new)
    assert await one.leases.holder(new) == "http://two"


async def test_the_only_gateway_on_sqlite_asks_nobody() -> None:
    hold = Alone().hold(7)
    assert hold is not None
    assert hold.valid()


async def test_notifications_reach_all_and_listening_resumes_after_a_cut(gateway) -> None:
    one, two = await gateway("one"), await gateway("two")
    heard: list[Notification] = []
    channels = [NotifyChannel(one.database, lambda _send: None), NotifyChannel(two.database, heard.append)]
    for channel in channels:
        channel.start()

    async def notifications(notify: Notification) -> None:
        async with asyncio.timeout(SOON):
            while notify not in heard:
                channels[0].notify(notify)
                await asyncio.sleep(0.05)

    await notifications(Notification("number", 1, 2))
    cut = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'kurir-notify'")
    await one.database.write(lambda c: c.execute(cut) and None)
    await notifications(Notification("leases"))
    for channel in channels:
        await channel.close()
