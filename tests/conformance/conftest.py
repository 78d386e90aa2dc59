"""One gateway with both channels connected to one sandbox network, for the whole suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from sqlalchemy import Connection
from tests.e2e.sandbox_network import SandboxNetwork, eventually, start_sandbox
from tests.harness.http import served
from tests.harness.sandboxed import add_official, subscribe

from kurir.accounts import accounts
from kurir.app import RunningGateway, running
from kurir.numbers import numbers
from kurir.numbers.numbers import ChannelKind, Number
from kurir.web.server import build

DEVICE_OWNER = "6281100000001"
PERSON = "6281234567801"
NOT_ON_WHATSAPP = "6281999999901"


@dataclass
class Office:
    """A running gateway, its sandbox, and a connected number of each channel."""

    gateway: RunningGateway
    sandbox: SandboxNetwork
    numbers: dict[ChannelKind, Number]

    async def state(self, number: Number, message_id: int, wanted: str) -> None:
        """Waits until a message has a state."""
        found = None
        async with asyncio.timeout(20):
            while found != wanted:
                snapshot = await self.gateway.outbox.snapshot(number.account_id, message_id)
                assert snapshot is not None
                found = snapshot.state
                await asyncio.sleep(0.02)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def office(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    sandbox = start_sandbox(tmp_path_factory.mktemp("sandbox"))
    host = sandbox.url.removeprefix("http://")
    settings = sandbox.settings(tmp_path_factory.mktemp("gateway"), allowed_networks=(host,))
    business = sandbox.businesses[0]
    try:
        async with running(settings) as gateway:

            def move_in(connection: Connection) -> tuple[Number, Number]:
                account = accounts.create(connection, name="Toko", email="toko@example.com")
                official = add_official(connection, gateway.sealing, account.id, business)
                return numbers.add_linked_device(connection, account.id), official

            device, official = await gateway.database.write(move_in)
            await _pair(gateway, sandbox, device)
            async with served(build(gateway, "http://test")) as port:
                await subscribe(sandbox.graph_url, business, f"http://127.0.0.1:{port}")
                await sandbox.post(f"/people/{PERSON}/messages", {"to": official.phone, "text": "Halo"})
                yield Office(gateway, sandbox, {"linked_device": device, "cloud_api": official})
    finally:
        sandbox.stop()


async def _pair(gateway: RunningGateway, sandbox: SandboxNetwork, device: Number) -> None:
    view = await gateway.pairing.start(device)
    while not view.qr:
        view = await gateway.pairing.next(device, 5)
    await sandbox.post("/scan", {"phone": DEVICE_OWNER, "qr": view.qr})
    await eventually(lambda: gateway.linked_devices.ready(device), 30, what="the device is connected")
