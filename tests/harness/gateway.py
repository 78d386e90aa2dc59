"""A whole gateway for tests: `app.running` with channels that need no WhatsApp, and a client of its HTTP endpoints.

Only the two channels are replaced. Two accounts, each with an API key, a linked device and an official number.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import sqlalchemy as sa
from tests.harness.channels import FakeChannel, FakeCloudApi, FakeLinkedDevices
from tests.harness.signals import Signals
from tests.sqlite import new_database

from kurir.accounts import accounts, api_keys
from kurir.accounts.accounts import Account
from kurir.app import Channels, RunningGateway, running
from kurir.contacts import contacts
from kurir.kit.pauses import Pauses
from kurir.kit.sealing import Sealing
from kurir.messages.channel_reports import Evidence, Received, Unknown
from kurir.messages.content import Outgoing
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.quarantine import quarantine
from kurir.quarantine.quarantine import Entry
from kurir.schema import metadata
from kurir.settings import Settings
from kurir.web.server import build

URL = "http://gateway.test"
PAUSES = Pauses(after_failure=0.05, before_maintenance=3_600.0)
"""What a test has to wait for comes soon; nothing is forgotten in the middle of a test."""
PHONE = "6281234567890"
TEMPLATE = {
    "name": "greeting",
    "language": "id",
    "category": "UTILITY",
    "header": {"type": "TEXT", "content": "Pesanan Anda"},
    "body": "Halo kak {{1}}, terima kasih atas pesanannya.",
    "variables": [{"placeholder": "{{1}}", "label": "Nama", "example": "Sari"}],
    "submitToFacebook": True,
}


@dataclass
class Tenant:
    """An account with what its programs send: the key and the numbers' keys."""

    account: Account
    api_key: str
    device: Number
    official: Number

    def credentials(self) -> dict[str, str]:
        """All spellings at once, as some clients send them."""
        return {
            "api_key": self.api_key,
            "secret_key": self.api_key,
            "number_id": self.device.key,
            "licenses_key": self.official.key,
        }


@dataclass
class Harness:
    """A gateway, its two tenants, the channels' other side, and a client of its HTTP endpoints."""

    gateway: RunningGateway
    app: Any
    ours: Tenant
    theirs: Tenant
    devices: FakeLinkedDevices
    cloud: FakeCloudApi
    client: httpx.AsyncClient
    signals: Signals

    async def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """POST of a JSON body to /public/v1/<path>."""
        return await self.client.post(f"/public/v1/{path}", json=body, **more)

    async def send(self, path: str, **fields: Any) -> httpx.Response:
        """POST of a JSON body with our tenant's credentials."""
        return await self.post(path, self.ours.credentials() | fields)

    def surprises(self) -> float:
        """How many requests met a mistake of the gateway's."""
        families = self.gateway.metrics.registry.collect()
        return sum(
            sample.value
            for family in families
            if family.name == "kurir_unexpected_errors"
            for sample in family.samples
            if sample.name.endswith("_total")
        )

    async def rows(self) -> dict[str, int]:
        """How many rows each table holds."""
        counts = sa.union_all(
            *(sa.select(sa.literal(table.name), sa.func.count()).select_from(table) for table in metadata.sorted_tables)
        )
        return await self.gateway.database.read(lambda c: {row[0]: row[1] for row in c.execute(counts)})

    async def furnish(self) -> dict[str, dict[str, Any]]:
        """Gives our tenant a contact list, an approved template and an open window; by endpoint the fields for them."""
        made = await self.gateway.database.write(self._a_list)
        template = await self.send("create-template", **TEMPLATE)
        came_in = Received(
            self.ours.account.id, self.ours.official.id, "wamid.in", PHONE, PHONE, "Sari", time.time(), "text", "Hi"
        )
        await self.gateway.inbox.take([(came_in, "in")])
        return {
            "get-list-audiences": {"contact_id": made},
            "send_message_template": {"template": template.json()["fb_response"]["id"], "variables": ["Sari"]},
            "send_meta_personal_message": {"reciptient": PHONE},
        }

    def _a_list(self, connection: sa.Connection) -> str:
        made = contacts.create_list(connection, self.ours.account.id, "Customers", at=1.0)
        contacts.add_audience(connection, self.ours.account.id, made.id, "Jono", PHONE, at=1.0)
        return made.key

    async def until_sent(self, count: int, *, channel: FakeChannel | None = None) -> list[Outgoing]:
        """Waits until the channel was given `count` messages."""
        channel = channel or self.devices
        async with asyncio.timeout(10):
            while len(channel.sent) < count:
                channel.arrived.clear()
                await channel.arrived.wait()
        return channel.sent


def quarantined(connection: sa.Connection) -> list[Entry]:
    """The quarantine's entries with their payloads, newest first."""
    found = [quarantine.by_id(connection, line.id) for line in quarantine.lines(connection, limit=1_000)]
    return [entry for entry in found if entry is not None]


@asynccontextmanager
async def open_harness(
    folder: Path,
    *,
    evidence: Callable[[Outgoing], Evidence] = lambda _: Unknown(),
    pauses: Pauses = PAUSES,
    **changes: Any,
) -> AsyncIterator[Harness]:
    """A running gateway in `folder`; `changes` are settings by name, `evidence` what the linked devices know."""
    wanted: dict[str, Any] = {
        "data_dir": folder,
        "rate_limit": "100000/minute",
        "failed_key_limit": "100000/minute",
        "status_page": "members",
        "sync_timeout": 5.0,
    }
    settings = Settings(**(wanted | changes))
    if not settings.database_url:
        new_database(settings.sqlite_path)
    devices, cloud = FakeLinkedDevices(), FakeCloudApi()
    devices.evidence_of = evidence
    signals = Signals()
    channels = Channels(cast(Any, devices), cast(Any, cloud))
    async with running(settings, URL, channels=channels, pauses=pauses, signals=signals) as gateway:
        ours, theirs = [
            await gateway.database.write(lambda c, email=email: tenant(c, gateway.sealing, email))
            for email in ("ours@example.com", "theirs@example.com")
        ]
        if gateway.leases is not None:
            for one in (ours, theirs):
                await gateway.leases.take(one.device.id)
                await gateway.leases.take(one.official.id)
        app = build(gateway, URL)
        transport = httpx.ASGITransport(app, client=("192.0.2.7", 50_000))
        async with httpx.AsyncClient(transport=transport, base_url=URL, timeout=20) as client:
            yield Harness(gateway, app, ours, theirs, devices, cloud, client, signals)


def tenant(connection: sa.Connection, sealing: Sealing, email: str) -> Tenant:
    """A new account with a linked device and an official number."""
    account = accounts.create(connection, name=email, email=email, language="en")
    device = numbers.add_linked_device(connection, account.id, "shop")
    official = numbers.add_official(
        connection,
        sealing,
        account.id,
        phone="62811000" + str(account.id),
        phone_number_id="10000" + str(account.id),
        waba_id="20000" + str(account.id),
        app_id="30000",
        access_token="token of the test",
        app_secret="secret of the test",
        verify_token="verify of the test",
    )
    return Tenant(account, api_keys.create(connection, sealing, account.id), device, official)
