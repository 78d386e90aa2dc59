"""Rows: one linked device over the real engine and the sandbox: memory of its host, sends, incoming messages.

The sandbox (a WhatsApp in one Python process) shares the machine with the gateway and bounds both rates.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec
import sqlalchemy as sa

from kurir.bench import processes
from kurir.bench.deliver import checked
from kurir.bench.figures import Figure, Goal, Side, values_of
from kurir.bench.load import Requests
from kurir.bench.processes import Cpu, cpu
from kurir.bench.program import BenchError, python, running
from kurir.bench.run import Run
from kurir.bench.site import Gateway, serving
from kurir.data_folder import database_of
from kurir.inbox.tables import incoming
from kurir.kit.tokens import read_token
from kurir.outbox.tables import messages
from kurir.store.database import Database

T = TypeVar("T")
_PHONE = "6281190000001"
_PEOPLE = 10
_HOST_MEMORY = Goal("value", floor=90.0, aim=70.0, less=True)
_SENDS = Goal("value", floor=40.0, aim=100.0)
_INCOMING = Goal("value", floor=1_000.0, aim=3_000.0)
_TIMEOUT, _LOOK = 120.0, 0.05
_PROBE = 20


class _Sandbox(msgspec.Struct):
    url: str
    graph_url: str
    proxy_url: str
    ca_file: str
    noise_root: str


@dataclass(frozen=True, slots=True)
class _Device:
    """A gateway with one connected device, and the sandbox that it is connected to."""

    gateway: Gateway
    host: int
    sandbox: _Sandbox
    session: aiohttp.ClientSession
    database: Database
    people: tuple[str, ...]

    async def stored(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
        """How many rows there are."""
        count = sa.select(sa.func.count()).select_from(table).where(*where)

        def look() -> int:
            with self.database.snapshot() as connection:
                return connection.execute(count).scalar_one()

        return await asyncio.to_thread(look)

    async def until(self, wanted: int, table: sa.Table, *where: sa.ColumnElement[bool]) -> None:
        """Waits until there are so many rows."""

        async def look() -> bool | None:
            return await self.stored(table, *where) >= wanted or None

        await _eventually(look, f"{wanted} rows in {table.name}")


async def linked(run: Run) -> list[Figure]:
    """Memory first, then sends to ten people, then texts of ten people."""
    async with _open_device(run) as device:
        await asyncio.sleep(min(5.0, run.options.seconds))
        memory = processes.memory(device.host)
        sends = [await _sends(run, device) for _ in range(run.options.rounds)]
        texts = [await _texts(run, device) for _ in range(run.options.rounds)]
        loaded = processes.memory(device.host)
    return [
        _memory("RSS", "engine host with one device, idle", memory.rss, _HOST_MEMORY),
        _memory("PSS", "engine host with one device, idle", memory.pss, None),
        _memory("RSS", "engine host with one device, after load", loaded.rss, None),
        Figure(
            row="linked sends",
            what="linked sends of one device to ten people, until recorded; bounded by the sandbox",
            unit="/s",
            ours=_side(sends),
            goal=_SENDS,
        ),
        Figure(
            row="incoming linked",
            what="texts of ten people to one device, until stored; bounded by the sandbox",
            unit="/s",
            ours=_side(texts),
            goal=_INCOMING,
        ),
    ]


_Round = tuple[float, Cpu]
"""Messages a second, and processor time per message."""


async def _sends(run: Run, device: _Device) -> _Round:
    before = await device.stored(messages, messages.c.state.in_(_LEFT))

    async def send(count: int) -> None:
        bodies = [
            msgspec.json.encode(
                {
                    "api_key": device.gateway.site.api_key,
                    "number_id": device.gateway.site.device,
                    "phone_no": "+" + device.people[i % _PEOPLE],
                    "message": f"Your order {i} has left our shop and will be with you tomorrow",
                }
            ).decode()
            for i in range(count)
        ]
        requests = Requests("/public/v1/send_personal_message", bodies, once=True)
        checked(await run.load.run(device.gateway.url, requests, 8, 0.0), "linked sends")

    return await _timed(run, device, send, before, messages, messages.c.state.in_(_LEFT))


_LEFT = ("sent", "delivered", "read")


async def _texts(run: Run, device: _Device) -> _Round:
    before = await device.stored(incoming)

    async def write(count: int) -> None:
        numbers = iter(range(count))

        async def work(person: str) -> None:
            for i in numbers:
                body = {"to": _PHONE, "text": f"Is my order {i} on its way?"}
                await _post(device.session, f"{device.sandbox.url}/people/{person}/messages", body)

        await asyncio.gather(*(work(person) for person in device.people))

    return await _timed(run, device, write, before, incoming)


async def _timed(
    run: Run,
    device: _Device,
    work: Callable[[int], Awaitable[None]],
    before: int,
    table: sa.Table,
    *where: sa.ColumnElement[bool],
) -> _Round:
    """Does `work` with a few messages to size the round, then with as many as fill it."""
    loop = asyncio.get_running_loop()
    rate, spent, count = 0.0, Cpu(), _PROBE
    for size in (_PROBE, 0):
        count = size or max(_PROBE, int(rate * run.options.seconds))
        began, used = loop.time(), cpu(device.gateway.pid)
        await work(count)
        before += count
        await device.until(before, table, *where)
        rate = count / (loop.time() - began)
        spent = cpu(device.gateway.pid).since(used)
    return rate, spent.each(count)


def _side(rounds: list[_Round]) -> Side:
    rates = [rate for rate, _ in rounds]
    return Side(
        "kurir",
        statistics.median(rates),
        rates,
        loop_us=statistics.median(spent.loop for _, spent in rounds),
        threads_us=statistics.median(spent.threads for _, spent in rounds),
        children_us=statistics.median(spent.children for _, spent in rounds),
    )


def _memory(kind: str, what: str, value: float, goal: Goal | None) -> Figure:
    return Figure(row=f"memory {kind}", what=what, unit="MiB", ours=values_of("kurir", [value]), goal=goal)


@asynccontextmanager
async def _open_device(run: Run) -> AsyncGenerator[_Device]:
    folder = run.folder / "sandbox"
    folder.mkdir(exist_ok=True)
    ready = folder / "sandbox.json"
    command = python("kurir_sandbox", "--data", str(folder), "--port", "0", "--seed", "empty")
    async with (
        running("sandbox", command, run.folder) as program,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
    ):
        sandbox = await program.ready(lambda: _read(ready))
        people = tuple(f"62812900000{i:02d}" for i in range(_PEOPLE))
        for phone in (_PHONE, *people):
            await _post(session, f"{sandbox.url}/people", {"phone": phone, "name": f"Person {phone[-2:]}"})
        changes = {
            "KURIR_SANDBOX": "on",
            "KURIR_SANDBOX_PROXY": sandbox.proxy_url,
            "KURIR_SANDBOX_CA": sandbox.ca_file,
            "KURIR_SANDBOX_NOISE_ROOT": sandbox.noise_root,
            "KURIR_GRAPH_URL": sandbox.graph_url,
        }
        async with run.site(officials=0) as site, serving(site, changes) as gateway:
            database = database_of(site.settings)
            try:
                host = await _pair(session, gateway, sandbox)
                yield _Device(gateway, host, sandbox, session, database, people)
            finally:
                database.engine.dispose()


async def _pair(session: aiohttp.ClientSession, gateway: Gateway, sandbox: _Sandbox) -> int:
    """Pairs the site's device by QR; returns the process id of its engine host."""
    headers = {"Authorization": f"Bearer {read_token(gateway.site.settings.data_dir)}"}
    address = f"{gateway.url}/api/v1/numbers/{gateway.site.device}"

    async def code() -> str | None:
        return (await _get(session, f"{address}/pairing", headers)).get("qr") or None

    async def connected() -> bool | None:
        found = await _get(session, f"{gateway.url}/api/v1/numbers", headers)
        return any(number["state"] == "connected" for number in found["numbers"]) or None

    await _post(session, f"{address}/pairing", {}, headers)
    await _post(session, f"{sandbox.url}/scan", {"qr": await _eventually(code, "a QR code"), "phone": _PHONE})
    await _eventually(connected, "a connected device")
    hosts = [pid for pid in processes.descendants(gateway.pid) if "engine_host" in processes.command(pid)]
    if not hosts:
        raise BenchError("linked: the gateway has no engine host")
    return hosts[0]


def _read(file: Path) -> _Sandbox | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Sandbox)
    except FileNotFoundError:
        return None


async def _eventually(look: Callable[[], Awaitable[T | None]], what: str) -> T:
    deadline = asyncio.get_running_loop().time() + _TIMEOUT
    while (found := await look()) is None:
        if asyncio.get_running_loop().time() > deadline:
            raise BenchError(f"linked: no {what} within {_TIMEOUT:.0f} s")
        await asyncio.sleep(_LOOK)
    return found


async def _get(session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> dict[str, Any]:
    async with session.get(url, headers=headers) as answer:
        return await answer.json(content_type=None)


async def _post(
    session: aiohttp.ClientSession, url: str, body: dict[str, Any], headers: dict[str, str] | None = None
) -> None:
    async with session.post(url, json=body, headers=headers) as answer:
        if answer.status >= 400:
            raise BenchError(f"{url} answered {answer.status}: {(await answer.text())[:300]}")
