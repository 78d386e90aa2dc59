"""A place to hurt: the sandbox and a gateway as processes of their own, two accounts, both channels, many people.

The gateway is `kurir serve` on a folder of its own; it can be killed and started again at any moment. Everything that
must be true afterwards is asked of four ledgers that share nothing (see `accountant`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import sqlalchemy as sa
from tests.e2e.demo_process import wait_until
from tests.e2e.sandbox_network import SandboxNetwork, start_sandbox
from tests.harness.sandboxed import add_official, subscribe

from kurir.accounts import accounts, api_keys
from kurir.data_folder import database_of, open_data_folder, read_ready_file
from kurir.kit.url_rules import Allowed
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.settings import Settings
from kurir.webhooks import endpoints

DEVICE_OWNERS = ("6281100000001", "6281100000002")
START_LIMIT = 60.0


@dataclass
class Shop:
    """An account with its key, its linked device and its official number."""

    account_id: int
    api_key: str
    device: Number
    official: Number
    device_phone: str
    webhook_secret: str


@dataclass
class Site:
    """The running site. `kills` counts what was done to the gateway."""

    folder: Path
    sandbox: SandboxNetwork
    settings: Settings
    shops: list[Shop]
    people: list[str]
    process: subprocess.Popen[bytes] | None = None
    kills: int = 0
    url: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    others: list[Site] = field(default_factory=list)

    def beside(self, name: str) -> Site:
        """A further gateway on the same PostgreSQL, not started yet: a data folder and a port of its own, the same key.

        Sandbox, shops and people are the same; it ends with this site.
        """
        folder, port = self.folder / name, _free_port()
        settings = msgspec.structs.replace(self.settings, data_dir=folder / "gateway")
        settings.data_dir.mkdir(parents=True, mode=0o700)
        shutil.copy(self.settings.data_dir / "master.key", settings.data_dir)
        environment = {**self.environment, "KURIR_DATA_DIR": str(settings.data_dir), "KURIR_PORT": str(port)}
        other = dataclasses.replace(
            self,
            folder=folder,
            settings=settings,
            process=None,
            kills=0,
            url=f"http://127.0.0.1:{port}",
            environment=environment,
            others=[],
        )
        self.others.append(other)
        return other

    def start(self, **changes: str) -> None:
        """Starts the gateway and waits until it answers; `changes` are further environment variables."""
        (self.settings.data_dir / "gateway.json").unlink(missing_ok=True)
        self.spawn(**changes)
        wait_until(self._up, START_LIMIT, self.explain)

    def spawn(self, **changes: str) -> None:
        """Starts the gateway and does not wait."""
        with (self.folder / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kurir", "serve"],
                env={**self.environment, **changes},
                stdout=log,
                stderr=log,
            )

    def _up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the gateway ended with {self.process.returncode}: {self.explain()}")
        ready = read_ready_file(self.settings.data_dir)
        return ready is not None and ready.pid == self.process.pid

    def kill(self) -> None:
        """SIGKILL, at whatever it is doing."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.kills += 1

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)

    def rows(self, statement: str, **values: Any) -> list[Any]:
        """What a SELECT finds in the gateway's database; `:name` in the statement stands for a value."""
        database = database_of(self.settings)
        # not in a transaction of ours: that would wait for the write lock, which a busy gateway seldom lets go of
        with database.engine.connect() as connection:
            found = list(connection.execute(sa.text(statement), values))
        database.engine.dispose()
        return found

    def watch(self, shop: Shop, url: str, *events: str) -> str:
        """Tells `url` of the shop's events too; returns the secret."""
        database, sealing = open_data_folder(self.settings)
        with database.transaction() as connection:
            _, secret = endpoints.add(
                connection,
                sealing,
                shop.account_id,
                url,
                allowed=Allowed.parse(["127.0.0.0/8"]),
                now=time.time(),
                events=events,
            )
        database.engine.dispose()
        return secret

    def logged(self, event: str) -> int:
        """How often the gateway's processes have logged an event."""
        return (self.folder / "gateway.log").read_text(errors="replace").count(f'"{event}"')

    def explain(self) -> str:
        """The end of the gateway's log."""
        return (self.folder / "gateway.log").read_text(errors="replace")[-4000:]


@asynccontextmanager
async def open_site(
    folder: Path,
    people: int = 20,
    database_url: str = "",
    receiver: str = "http://127.0.0.1:9/",
    data_dir: Path | None = None,
    shops: int = 2,
) -> AsyncIterator[Site]:
    """A site with some shops, paired and subscribed, whose people have written to all official numbers.

    `database_url` is the gateway's setting of that name; `receiver` gets the shops' webhooks of message states,
    each under its account's id as the path; `data_dir` is the gateway's folder when it is to be elsewhere.
    """
    (folder / "sandbox").mkdir(parents=True)
    sandbox = start_sandbox(folder / "sandbox")
    try:
        data_dir = data_dir or folder / "gateway"
        more = {"people": people, "database_url": database_url, "receiver": receiver, "count": shops}
        site = await _build(folder, sandbox, data_dir, **more)
        site.start()
        try:
            await move_in(site)
            yield site
        finally:
            for one in (site, *site.others):
                if one.process is not None and one.process.poll() is None:
                    one.process.kill()
                    one.process.wait()
    finally:
        sandbox.stop()


async def _build(
    folder: Path, sandbox: SandboxNetwork, data_dir: Path, *, people: int, database_url: str, receiver: str, count: int
) -> Site:
    port = _free_port()
    settings = msgspec.structs.replace(sandbox.settings(data_dir), database_url=database_url)
    businesses = list(sandbox.businesses)
    owners = list(DEVICE_OWNERS[:count])
    for i in range(1, count):
        fields = {"phone": f"62815000000{i:02d}9", "name": f"Toko {i} Resmi"}
        businesses.append(await sandbox.post("/businesses", fields))
    for i in range(len(owners), count):
        owners.append(f"62855{i:08d}")
        await sandbox.post("/people", {"phone": owners[i], "name": f"Pemilik {i}"})
    persons = [f"62877{i:08d}" for i in range(people)]
    for phone in persons:
        await sandbox.post("/people", {"phone": phone, "name": f"Pelanggan {phone[-3:]}"})
    await sandbox.post("/policy", {"window": "off"})
    database, sealing = open_data_folder(settings)
    shops = []
    with database.transaction() as connection:
        for i, business in enumerate(businesses):
            account = accounts.create(connection, name=f"Toko {i}", email=f"toko{i}@example.com", language="en")
            official = add_official(connection, sealing, account.id, business)
            device = numbers.add_linked_device(connection, account.id)
            key = api_keys.create(connection, sealing, account.id)
            _, secret = endpoints.add(
                connection,
                sealing,
                account.id,
                f"{receiver}{account.id}",
                allowed=Allowed.parse(["127.0.0.0/8"]),
                now=time.time(),
                events=["message_status"],
            )
            shops.append(Shop(account.id, key, device, official, owners[i], secret))
    database.engine.dispose()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KURIR_")}
    environment |= {
        "KURIR_DATA_DIR": str(settings.data_dir),
        "KURIR_DATABASE_URL": database_url,
        "KURIR_PORT": str(port),
        "KURIR_LOG_FORMAT": "json",
        "KURIR_SANDBOX": "on",
        "KURIR_SANDBOX_PROXY": settings.sandbox_proxy,
        "KURIR_SANDBOX_CA": settings.sandbox_ca,
        "KURIR_SANDBOX_NOISE_ROOT": settings.sandbox_noise_root,
        "KURIR_GRAPH_URL": settings.graph_url,
        "KURIR_ALLOWED_NETWORKS": "127.0.0.0/8",
        "KURIR_RATE_LIMIT": "100000/second",
        "KURIR_DEVICE_WINDOW": "8",
    }
    return Site(folder, sandbox, settings, shops, persons, url=f"http://127.0.0.1:{port}", environment=environment)


async def move_in(site: Site) -> None:
    """Pairs the devices and subscribes the official numbers, as their owners would."""
    token = (site.settings.data_dir / "operator.token").read_text(encoding="ascii").strip()
    headers = {"Authorization": f"Bearer {token}"}
    known = {business["phone"]: business for business in await site.sandbox.get("/businesses")}
    async with aiohttp.ClientSession() as session:
        for shop in site.shops:
            address = f"{site.url}/api/v1/numbers/{shop.device.key}/pairing"
            async with session.post(address, headers=headers, json={}) as answer:
                view = await answer.json()
            while not view["qr"]:
                async with session.get(f"{address}?wait=5", headers=headers) as answer:
                    view = await answer.json()
            await site.sandbox.post("/scan", {"phone": shop.device_phone, "qr": view["qr"]})
            business = known[shop.official.phone]
            await subscribe(site.sandbox.graph_url, business, site.url)
        async with asyncio.timeout(30):
            while not await _all_connected(session, site, headers):
                await asyncio.sleep(0.1)
    everybody = len(site.shops) * len(site.people)
    for shop in site.shops:
        for phone in site.people:
            await site.sandbox.post(f"/people/{phone}/messages", {"to": shop.official.phone, "text": "Halo"})
    async with asyncio.timeout(30):
        while (await asyncio.to_thread(site.rows, "SELECT count(*) FROM windows"))[0][0] < everybody:
            await asyncio.sleep(0.1)


async def _all_connected(session: aiohttp.ClientSession, site: Site, headers: dict[str, str]) -> bool:
    async with session.get(f"{site.url}/api/v1/numbers", headers=headers) as answer:
        found: list[dict[str, Any]] = (await answer.json())["numbers"]
    return all(number["state"] == "connected" for number in found)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
