"""A whole gateway for tests of the doors: real database, outbox, dispatcher, inbox and media; channels that pretend.

Only the seam to WhatsApp is replaced. Two accounts, each with an API key, a linked device and an official number.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import sqlalchemy as sa

from kurir.accounts import accounts, api_keys
from kurir.accounts.accounts import Account
from kurir.channels.channel import Capabilities
from kurir.channels.cloud_api.templates.calls import Created, MetaTemplate
from kurir.channels.linked_device.channel import DeviceUnavailable
from kurir.channels.linked_device.protocol import DeviceContact, DeviceGroup
from kurir.contacts import contacts
from kurir.data_folder import open_data_folder
from kurir.dispatch.dispatcher import Dispatcher
from kurir.events.feed import Feed
from kurir.inbox import Inbox
from kurir.kit.clock import SteadyClock
from kurir.kit.metrics import Metrics
from kurir.kit.safe_fetch import SafeFetch
from kurir.kit.tasks import TaskHealth
from kurir.media.store import MediaStore
from kurir.messages.content import Outgoing
from kurir.messages.reports import Event, Evidence, Outcome, Received, Sent, Unknown
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.outbox.outbox import Outbox
from kurir.quarantine import quarantine
from kurir.quarantine.quarantine import Entry
from kurir.reasons import as_written
from kurir.schema import metadata
from kurir.services.services import services_of
from kurir.settings import Settings
from kurir.templates.templates import Templates
from kurir.web.gateway import Gateway
from kurir.web.server import build
from tests.sqlite import new_database

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


class PretendTemplates:
    """Meta's side of template calls: takes what is submitted and approves it at once."""

    def __init__(self) -> None:
        self.listed: list[MetaTemplate] = []

    def listed_within(self, number: Number, seconds: float) -> bool:
        return False

    async def create(self, number: Number, body: dict[str, Any]) -> Created:
        identifier = str(1234567890 + len(self.listed))
        self.listed.append(
            MetaTemplate(
                identifier, body["name"], body["language"], "APPROVED", body["category"], body.get("components", [])
            )
        )
        return Created(identifier, "PENDING")

    async def list(self, number: Number) -> list[MetaTemplate]:
        return self.listed


class PretendChannel:
    """Takes every message and says what `outcome` says; answers lookups from what the test put in."""

    def __init__(self, *, groups: bool) -> None:
        kinds = frozenset({"text", "image", "document", "location", "template"})
        self.capabilities = Capabilities(kinds=cast(Any, kinds), groups=groups, typing=True, window=4)
        self.connected = True
        self.sent: list[Outgoing] = []
        self.arrived = asyncio.Event()
        self.outcome: Callable[[Outgoing], Outcome] = lambda outgoing: Sent(f"remote-{outgoing.message_id}")
        self.evidence_of: Callable[[Outgoing], Evidence] = lambda _: Unknown()
        self.unavailable = ""
        self.on_whatsapp: dict[str, bool] = {}
        self.address_book: list[DeviceContact] = []
        self.member_of: list[DeviceGroup] = []
        self.templates = PretendTemplates()
        self.let_go: list[Event] = []
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    async def start(self) -> None: ...

    def ready(self, number: Number) -> bool:
        return self.connected

    async def send(self, number: Number, outgoing: Outgoing) -> Outcome:
        self.sent.append(outgoing)
        self.arrived.set()
        return self.outcome(outgoing)

    async def evidence(self, number: Number, outgoing: Outgoing) -> Evidence:
        return self.evidence_of(outgoing)

    def hear(self, event: Event) -> None:
        """Something happens on the network."""
        self._events.put_nowait(event)

    async def events(self) -> AsyncIterator[Event]:
        while True:
            yield await self._events.get()

    def stored(self, events: Sequence[Event]) -> None:
        self.let_go.extend(events)

    async def close(self) -> None: ...

    async def is_on_whatsapp(self, number: Number, phones: list[str]) -> dict[str, bool]:
        self._must_be_available()
        return {phone: self.on_whatsapp[phone] for phone in phones if phone in self.on_whatsapp}

    async def contacts(self, number: Number) -> list[DeviceContact]:
        self._must_be_available()
        return self.address_book

    async def groups(self, number: Number) -> list[DeviceGroup]:
        self._must_be_available()
        return self.member_of

    def _must_be_available(self) -> None:
        if self.unavailable:
            raise DeviceUnavailable(as_written(self.unavailable))


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
class Front:
    """A gateway, its two tenants, the channels' other side, and a client of its HTTP doors."""

    gateway: Gateway
    app: Any
    ours: Tenant
    theirs: Tenant
    devices: PretendChannel
    cloud: PretendChannel
    client: httpx.AsyncClient

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

    async def until_sent(self, count: int, *, channel: PretendChannel | None = None) -> list[Outgoing]:
        """Waits until the channel was given `count` messages."""
        channel = channel or self.devices
        async with asyncio.timeout(10):
            while len(channel.sent) < count:
                channel.arrived.clear()
                await channel.arrived.wait()
        return channel.sent


def set_aside(connection: sa.Connection) -> list[Entry]:
    """The quarantine's entries with their payloads, newest first."""
    found = [quarantine.by_id(connection, line.id) for line in quarantine.lines(connection, limit=1_000)]
    return [entry for entry in found if entry is not None]


@asynccontextmanager
async def open_front(
    folder: Path, *, evidence: Callable[[Outgoing], Evidence] = lambda _: Unknown(), **changes: Any
) -> AsyncIterator[Front]:
    """A running gateway in `folder`; `changes` are settings by name, `evidence` what the linked devices know."""
    wanted: dict[str, Any] = {
        "data_dir": folder,
        "rate_limit": "100000/minute",
        "failed_key_limit": "100000/minute",
        "status_page": "members",
        "sync_timeout": 5.0,
    }
    settings = Settings(**(wanted | changes))
    async with contextlib.AsyncExitStack() as stack:
        if not settings.database_url:
            new_database(settings.sqlite_path)
        database, sealing = await asyncio.to_thread(open_data_folder, settings)
        await database.start()
        stack.push_async_callback(database.close)
        dispatchers: list[Dispatcher] = []
        clock = SteadyClock()

        def number_due(account_id: int, number_id: int) -> None:
            for dispatcher in dispatchers:
                dispatcher.wake(account_id, number_id)

        metrics = Metrics()
        health = TaskHealth(metrics.task_failed)
        outbox = Outbox(
            database,
            sealing,
            clock,
            lifetime=settings.message_lifetime,
            max_attempts=settings.max_attempts,
            queue_limit=settings.queue_limit,
            metrics=metrics,
            number_due=number_due,
        )
        safe_fetch = SafeFetch(settings)
        await safe_fetch.start()
        stack.push_async_callback(safe_fetch.close)
        media = MediaStore(settings, database, safe_fetch, clock)
        stack.push_async_callback(media.close)
        devices, cloud = PretendChannel(groups=True), PretendChannel(groups=False)
        devices.evidence_of = evidence
        dispatcher = Dispatcher(
            {"linked_device": devices, "cloud_api": cloud},
            database=database,
            outbox=outbox,
            media=media,
            metrics=metrics,
            clock=clock,
            device_gap=settings.device_gap,
            health=health,
        )
        dispatchers.append(dispatcher)
        await dispatcher.start()
        stack.push_async_callback(dispatcher.stop)
        inbox = Inbox(database, outbox, clock, number_due=number_due, metrics=metrics, health=health)
        templates = Templates(database, cast(Any, cloud), media, clock)
        gateway = Gateway(
            settings=settings,
            clock=clock,
            database=database,
            sealing=sealing,
            metrics=metrics,
            feed=Feed(database),
            outbox=outbox,
            dispatcher=dispatcher,
            inbox=inbox,
            media=media,
            templates=templates,
            linked_devices=cast(Any, devices),
            cloud_api=cast(Any, cloud),
            pairing=cast(Any, None),
            health=health,
            services=services_of(
                settings,
                database=database,
                sealing=sealing,
                clock=clock,
                poster=safe_fetch,
                outbox=outbox,
                inbox=inbox,
                linked_devices=cast(Any, devices),
                pairing=cast(Any, None),
                templates=templates,
            ),
        )
        ours = await database.write(lambda c: _tenant(c, sealing, "ours@example.com"))
        theirs = await database.write(lambda c: _tenant(c, sealing, "theirs@example.com"))
        app = build(gateway, "http://gateway.test")
        transport = httpx.ASGITransport(app, client=("192.0.2.7", 50_000))
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://gateway.test", timeout=20)
        )
        yield Front(gateway, app, ours, theirs, devices, cloud, client)


def _tenant(connection: sa.Connection, sealing: Any, email: str) -> Tenant:
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
