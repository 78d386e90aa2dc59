"""A Graph API of a few lines that answers what a test tells it to, for one official number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from sqlalchemy import Connection
from tests.sqlite import new_database

from kurir.accounts import accounts
from kurir.channels.cloud_api.channel import CloudApi
from kurir.data_folder import open_data_folder
from kurir.kit.sealing import Sealing
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.settings import Settings
from kurir.store.database import Database

Respond = Callable[[web.Request, Any], web.StreamResponse]


@dataclass
class Seen:
    """A request that reached the double."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Time:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """A started channel with its number, the double behind it, and what the double saw."""

    channel: CloudApi
    number: Number
    database: Database
    sealing: Sealing
    settings: Settings
    time: Time
    seen: list[Seen] = field(default_factory=list)
    respond: Respond = lambda _request, _body: web.json_response({"messages": [{"id": "wamid.one"}]})

    def paths(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.seen]


@asynccontextmanager
async def open_bench(folder: Path) -> AsyncIterator[Bench]:
    """A channel on a real database in `folder`, talking to a double on loopback."""
    benches: list[Bench] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        body: Any
        if request.content_type == "application/json":
            body = await request.json()
        elif request.content_type.startswith("multipart/"):
            form = await request.post()
            body = {
                name: (value.filename, value.content_type, value.file.read())
                if isinstance(value, web.FileField)
                else value
                for name, value in form.items()
            }
        else:
            body = await request.read()
        [bench] = benches
        bench.seen.append(
            Seen(request.method, request.path.lstrip("/"), dict(request.query), dict(request.headers), body)
        )
        return bench.respond(request, body)

    app = web.Application(client_max_size=10_000_000)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = Settings(
        data_dir=folder, graph_url=f"http://127.0.0.1:{runner.addresses[0][1]}/v25.0", graph_timeout=3.0
    )
    new_database(settings.sqlite_path)
    database, sealing = await asyncio.to_thread(open_data_folder, settings)
    await database.start()

    def move_in(connection: Connection) -> Number:
        account = accounts.create(connection, name="Toko", email="toko@example.com")
        return numbers.add_official(
            connection,
            sealing,
            account.id,
            phone="6281100000001",
            phone_number_id="111",
            waba_id="222",
            app_id="333",
            access_token="a token",
            app_secret="a secret",
            verify_token="x",
        )

    time = Time()
    channel = CloudApi(settings, database, sealing, time)
    number = await database.write(move_in)
    benches.append(Bench(channel, number, database, sealing, settings, time))
    await channel.start()
    try:
        yield benches[0]
    finally:
        await channel.close()
        await database.close()
        await runner.cleanup()


def graph_error(code: int, status: int = 400, **more: Any) -> web.Response:
    """The answer of a refused request."""
    return web.json_response({"error": {"message": f"(#{code}) No", "code": code, **more}}, status=status)
