"""Every background task is broken in turn: `/readyz` says so, the metric counts it, and it comes back by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import sqlalchemy as sa
from tests.harness.gateway import PHONE
from tests.sqlite import new_database

from kurir import maintenance
from kurir.accounts import accounts
from kurir.app import RunningGateway, running
from kurir.dispatch.dispatcher import Dispatcher
from kurir.inbox import Inbox
from kurir.inbox.tables import incoming
from kurir.kit import tasks
from kurir.kit.pauses import Pauses
from kurir.leases import leases
from kurir.leases.leases import Leases
from kurir.messages.channel_reports import Received
from kurir.messages.content import Text
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.outbox.outbox import Draft, Outbox
from kurir.settings import Settings
from kurir.store import postgres as store_postgres
from kurir.store.writer import Writer
from kurir.templates.templates import Templates
from kurir.web.server import build
from kurir.webhooks import deliver
from kurir.webhooks.deliver import Deliverer


class Break:
    """Makes a function or coroutine function raise while `on`."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self.on = False
        self.hits = 0
        original = getattr(owner, name)

        def check() -> None:
            if self.on:
                self.hits += 1
                raise RuntimeError("broken on purpose")

        if asyncio.iscoroutinefunction(original):

            async def broken(*arguments: Any, **named: Any) -> Any:
                check()
                return await original(*arguments, **named)

        else:

            def broken(*arguments: Any, **named: Any) -> Any:  # type: ignore[misc]
                check()
                return original(*arguments, **named)

        patch.setattr(owner, name, broken)


class Site(NamedTuple):
    """A running gateway with one linked device, and its front by HTTP."""

    gateway: RunningGateway
    client: httpx.AsyncClient
    number: Number

    async def ready(self) -> tuple[int, list[str]]:
        answer = await self.client.get("/readyz")
        return answer.status_code, answer.json().get("reasons", [])

    async def metric(self, name: str) -> float:
        lines = (await self.client.get("/metrics")).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


@contextlib.asynccontextmanager
async def site(settings: Settings) -> AsyncIterator[Site]:
    async with running(settings, "http://gateway.test", pauses=Pauses(sweep=0.05)) as gateway:

        def prepare(connection: sa.Connection) -> Number:
            account = accounts.create(connection, name="Toko", email="toko@example.com")
            return numbers.add_linked_device(connection, account.id, "shop")

        number = await gateway.database.write(prepare)
        if gateway.leases is not None:
            assert await gateway.leases.take(number.id)
        transport = httpx.ASGITransport(build(gateway, "http://gateway.test"), client=("127.0.0.1", 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test", timeout=20) as client:
            yield Site(gateway, client, number)


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> None:
    try:
        async with asyncio.timeout(20):
            while not await condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what) from None


async def receive(place: Site) -> None:
    """A person writes; it must be in the database in the end."""
    number = place.number
    await place.gateway.linked_devices._events.put(
        Received(number.account_id, number.id, "A1", PHONE, PHONE, "Sari", 1.0, "text", "halo")
    )


async def received(place: Site) -> bool:
    count = sa.select(sa.func.count()).select_from(incoming)
    return bool(await place.gateway.database.read(lambda c: c.execute(count).scalar_one()))


async def accept(place: Site, recipient: str = PHONE) -> int:
    number = place.number
    draft = Draft(account_id=number.account_id, number_id=number.id, recipient=recipient, content=Text("halo"))
    return (await place.gateway.outbox.accept([draft])).ids[0]


async def send(place: Site) -> None:
    """A message is accepted, which wakes the number's lane."""
    await accept(place)


async def nothing(_place: Site) -> None:
    """The task comes round by itself."""


class Case(NamedTuple):
    task: str
    owner: Any
    function: str
    trigger: Callable[[Site], Awaitable[None]] = nothing
    shared: bool = False
    """Whether the task exists on a shared database only."""


CASES = [
    Case("inbox LinkedDevices", Inbox, "_store", receive),
    Case("inbox LinkedDevices", Inbox, "_take_each", receive),
    Case("sweep", Outbox, "expire"),
    Case("sweep", Dispatcher, "_wake_all"),
    Case("webhook-rounds", Deliverer, "_repair"),
    Case("database-writer", Writer, "_seal"),
    Case("heartbeat", Leases, "_share", shared=True),
]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds and back-offs that a test can wait for; the rules stay the same."""
    monkeypatch.setattr(maintenance, "_AGAIN", 0.1)
    monkeypatch.setattr(deliver, "_POLL", 0.05)
    monkeypatch.setattr(deliver, "_REPAIR_EVERY", 0.0)
    monkeypatch.setattr(leases, "HEARTBEAT", 0.2)
    defaults = tasks.Tasks.keep.__kwdefaults__
    monkeypatch.setitem(defaults, "back_off", (0.05, 0.2))


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "sqlite":
        new_database(tmp_path / "kurir.db")
        yield Settings(data_dir=tmp_path)
        return
    server = request.getfixturevalue("postgres")
    url = server.new_database("kurir")
    yield Settings(data_dir=tmp_path, database_url=url)
    server.drop(url)


def pytest_id(case: Case) -> str:
    return f"{case.task}-{case.function}".replace(" ", "-")


@pytest.mark.parametrize("case", CASES, ids=pytest_id)
async def test_each_task_comes_back_and_readyz_says_so_meanwhile(
    case: Case, settings: Settings, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case.shared and not settings.database_url:
        return  # with SQLite there is one gateway and no such task
    broken = Break(monkeypatch, case.owner, case.function)
    async with site(settings) as place:
        assert await place.ready() == (200, [])
        await seen_and_healed(place, broken, case.task, case.trigger)


async def seen_and_healed(
    place: Site, broken: Break, task: str, trigger: Callable[[Site], Awaitable[None]] = nothing
) -> None:
    broken.on = True
    await trigger(place)

    async def reported() -> bool:
        status, reasons = await place.ready()
        return status == 503 and any(reason.startswith(f"the task {task}") for reason in reasons)

    async def healthy() -> bool:
        return await place.ready() == (200, [])

    await until(reported, f"/readyz never said that {task} is down")
    assert await place.metric(f'kurir_task_failures_total{{task="{task.split(maxsplit=1)[0]}"}}') >= 1
    broken.on = False
    await until(healthy, f"{task} did not come back: {await place.ready()}")
    # and the gateway works: what a person wrote is stored, what was accepted is claimed for sending
    await receive(place)
    await until(lambda: received(place), "nothing is received any more")
    await send(place)


async def test_a_lane_that_breaks_begins_again_and_sends_what_waits(
    settings: Settings, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Break(monkeypatch, Outbox, "claim")
    monkeypatch.setattr("kurir.channels.linked_device.channel.LinkedDevices.ready", lambda *_: True)
    async with site(settings) as place:
        await seen_and_healed(place, broken, f"lane {place.number.id}", send)
        message_id = await accept(place, "628111")

        async def tried() -> bool:
            found = await place.gateway.outbox.snapshot(place.number.account_id, message_id)
            # the device is not connected: each try puts it back, uncounted, which takes a claim
            return found is not None and found.error_code == "not_connected"

        await until(tried, "the lane claims nothing any more")


async def test_maintenance_that_breaks_comes_round_again(
    settings: Settings, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Break(monkeypatch, Templates, "refresh_all")
    broken.on = True
    async with site(settings) as place:
        await seen_and_healed(place, broken, "maintenance templates")


async def test_a_listener_that_breaks_comes_back(
    tmp_path: Path, postgres: Any, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Break(monkeypatch, store_postgres, "listening_address")
    broken.on = True
    url = postgres.new_database("kurir")
    async with site(Settings(data_dir=tmp_path, database_url=url)) as place:
        await seen_and_healed(place, broken, "listen")
    postgres.drop(url)


async def test_the_watch_over_the_heartbeat_comes_back(
    tmp_path: Path, postgres: Any, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.new_database("kurir")
    async with site(Settings(data_dir=tmp_path, database_url=url)) as place:
        broken = Break(monkeypatch, leases, "_now")
        await seen_and_healed(place, broken, "heartbeat-watch")
    postgres.drop(url)
