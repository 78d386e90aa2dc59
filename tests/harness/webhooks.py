"""The outbox's harness with webhooks: its inbox, endpoints, a deliverer, and customers' servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError
from tests.harness.outbox import OutboxHarness, Time, open_outbox_harness

from kurir.accounts import accounts
from kurir.events.tables import events
from kurir.inbox import Inbox
from kurir.kit.clock import Clock
from kurir.kit.metrics import Metrics
from kurir.kit.safe_fetch import SafeFetch
from kurir.kit.sealing import Sealing
from kurir.kit.url_rules import Allowed
from kurir.messages.channel_reports import Received
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.reasons import Reason
from kurir.settings import Settings
from kurir.store.database import LONG_WORK, Database
from kurir.webhooks import deliveries, endpoints
from kurir.webhooks.deliver import Deliverer
from kurir.webhooks.deliveries import ClaimedDelivery
from kurir.webhooks.endpoints import Endpoint
from kurir.webhooks.fan_out import behind, fan_out
from kurir.webhooks.retry_schedule import Answered, ReceiverResponse, judge
from kurir.webhooks.tables import webhook_attempts, webhook_deliveries

LOOPBACK = "127.0.0.0/8"
SEALING = Sealing(bytes(32))
_FRESH = 300.0
"""Seconds that the specification gives a signature."""
_ids = itertools.count(1)


@dataclass
class WebhookHarness:
    """The outbox's harness and what its webhooks are made of. Time stands still unless the test moves it."""

    harness: OutboxHarness
    inbox: Inbox
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def database(self) -> Database:
        return self.harness.database

    @property
    def time(self) -> Time:
        return self.harness.time

    async def endpoint(self, url: str = "http://127.0.0.1:9/", **changes: Any) -> tuple[Endpoint, str]:
        """A new endpoint of the account (or `account_id`) and its secret."""
        account_id = changes.pop("account_id", self.harness.number.account_id)
        now = changes.pop("now", self.time())
        return await self.database.write(
            lambda c: endpoints.add(c, SEALING, account_id, url, allowed=Allowed.parse([LOOPBACK]), now=now, **changes)
        )

    async def comes_in(self, chat: str = "628111", text: str = "halo", number: Number | None = None) -> str:
        """A person writes; returns the message's id."""
        number = number or self.harness.number
        remote_id = f"3EB0{next(_ids):08d}"
        message = Received(number.account_id, number.id, remote_id, chat, chat, "Siti", self.time(), "text", text)
        await self.inbox.take([(message, "")])
        return remote_id

    async def tenant(self) -> Number:
        """A device of another account, a new one each time."""

        def work(connection: sa.Connection) -> Number:
            account = accounts.create(connection, name="b", email=f"b{next(_ids)}@example.com")
            return numbers.add_linked_device(connection, account.id)

        return await self.database.write(work)

    async def fan_out(self) -> None:
        """What the event log has got becomes deliveries, as a deliverer would do in its next round."""
        for account_id in await self.database.read(behind):
            while await self.database.write(lambda c, a=account_id: fan_out(c, a), timeout=LONG_WORK):
                pass

    async def claim(self, endpoint: Endpoint) -> ClaimedDelivery | None:
        await self.fan_out()
        now = self.time()
        return await self.database.write(lambda c: deliveries.claim(c, SEALING, endpoint.id, now))

    async def claim_all(self, endpoint: Endpoint) -> list[ClaimedDelivery]:
        found = []
        while delivery := await self.claim(endpoint):
            found.append(delivery)
            assert len(found) < 1_000, "a claim gives what was claimed before"
        return found

    async def record(self, delivery: ClaimedDelivery, answer: ReceiverResponse | None = None) -> Reason:
        """The receiver said 200, or `answer`."""
        answer = answer or Answered(200)
        now = self.time()
        next_step = judge(answer, delivery.attempt, now, 0.5)
        return await self.database.write(
            lambda c: deliveries.record(c, delivery, answer, next_step, seconds=0.1, now=now)
        )

    async def states(self, endpoint: Endpoint | None = None) -> Counter[str]:
        """How many deliveries are in which state."""
        await self.fan_out()
        d = webhook_deliveries.c
        statement = sa.select(d.state).where(d.endpoint_id == endpoint.id if endpoint else sa.true())
        found = await self.database.read(lambda c: list(c.execute(statement).scalars()), timeout=LONG_WORK)
        return Counter(found)

    async def rows(self) -> tuple[int, int, int]:
        """How many events, deliveries and attempts there are."""
        await self.fan_out()
        tables = (events, webhook_deliveries, webhook_attempts)
        counts = [sa.select(sa.func.count()).select_from(table).scalar_subquery() for table in tables]
        row = await self.database.read(lambda c: c.execute(sa.select(*counts)).one())
        return row[0], row[1], row[2]


@asynccontextmanager
async def open_webhook_harness(where: Path | str) -> AsyncIterator[WebhookHarness]:
    """On a database of its own, as `open_outbox_harness`."""
    async with open_outbox_harness(where) as harness:
        inbox = Inbox(harness.database, harness.outbox, harness.time, number_due=lambda *_: None)
        yield WebhookHarness(harness, inbox)


@asynccontextmanager
async def delivering(
    database: Database, clock: Clock = time.time, metrics: Metrics | None = None, **pools: int
) -> AsyncIterator[Deliverer]:
    """A running deliverer that may post to loopback; `pools` are its numbers of connections."""
    safe_fetch = SafeFetch(Settings(allowed_networks=(LOOPBACK,)))
    await safe_fetch.start()
    deliverer = Deliverer(database, SEALING, safe_fetch, metrics or Metrics(), clock, **pools)
    await deliverer.start()
    try:
        yield deliverer
    finally:
        await deliverer.stop(timeout=1.0)
        await safe_fetch.close()


@dataclass
class WebhookCall:
    """One request as a receiver got it."""

    path: str
    headers: dict[str, str]
    body: bytes
    json: dict[str, Any]
    at: float = field(default_factory=time.time)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def text(self) -> str:
        return self.json["data"]["message_body"]


def text_of(delivery: ClaimedDelivery | None) -> str:
    """The text of the message that a delivery is about."""
    assert delivery is not None
    return json.loads(delivery.body)["data"]["message_body"]


Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Receiver:
    """A customer's server. Answers 200 unless `replies` has something else for a path: a status each time, the last
    one for ever, or a coroutine function.
    """

    def __init__(self) -> None:
        self.webhook_calls: list[WebhookCall] = []
        self.replies: dict[str, Sequence[int] | Reply] = {}
        self.over = asyncio.Event()
        self._came: Counter[str] = Counter()
        self._arrived = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def start(self, port: int = 0) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        assert self._runner.addresses
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> int:
        """Closes the server; returns the port it had."""
        self.over.set()
        assert self._runner is not None
        await self._runner.cleanup()
        return self._port

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self._port}{path}"

    def at(self, path: str = "/hook") -> list[WebhookCall]:
        """What came to a path."""
        return [webhook_call for webhook_call in self.webhook_calls if webhook_call.path == path]

    async def until(self, count: int, path: str = "/hook", timeout: float = 15.0) -> list[WebhookCall]:
        """Waits until so many requests have come to a path."""
        async with asyncio.timeout(timeout), self._arrived:
            await self._arrived.wait_for(lambda: self._came[path] >= count)
        return self.at(path)

    async def hang(self, _request: web.Request) -> web.StreamResponse:
        """A reply that does not come before the test is over."""
        await self.over.wait()
        return web.Response()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        webhook_call = WebhookCall(request.path, headers, body, await request.json())
        async with self._arrived:
            self.webhook_calls.append(webhook_call)
            self._came[request.path] += 1
            nth = self._came[request.path]
            self._arrived.notify_all()
        reply = self.replies.get(request.path, (200,))
        if callable(reply):
            return await reply(request)
        return web.Response(status=reply[min(nth, len(reply)) - 1], text="thanks")


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A customer's server."""
    receiver = Receiver()
    await receiver.start()
    try:
        yield receiver
    finally:
        with contextlib.suppress(RuntimeError):
            await receiver.stop()


def verified(webhook_call: WebhookCall, secret: str) -> dict[str, Any]:
    """The webhook's JSON when its signature is right by the reference library, and was fresh when it came.

    The library's `verify` asks how old the signature is now, and long runs are judged at their end. Raises
    WebhookVerificationError.
    """
    signed_at = float(webhook_call.headers["webhook-timestamp"])
    if abs(webhook_call.at - signed_at) > _FRESH:
        raise WebhookVerificationError(f"signed {webhook_call.at - signed_at:.0f} s before it came")
    signed = Webhook(secret).sign(webhook_call.id, datetime.fromtimestamp(signed_at, UTC), webhook_call.body.decode())
    if signed not in webhook_call.headers["webhook-signature"].split(" "):
        raise WebhookVerificationError("no matching signature")
    return json.loads(webhook_call.body)


async def eventually(question: Callable[[], Awaitable[Any]], wanted: Any = True, timeout: float = 15.0) -> None:
    """Asks until the answer is the wanted one; fails the test when it never is."""
    deadline = time.monotonic() + timeout
    while (answer := await question()) != wanted:
        assert time.monotonic() < deadline, f"still {answer!r}, not {wanted!r}"
        await asyncio.sleep(0.02)
