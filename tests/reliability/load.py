"""Callers with a log of their own: every call and every reply, whatever happens to the gateway meanwhile.

Each message carries a serial in its text (`#r7-000123`). Callers behave like the real ones: they give up on a call
after five seconds and go on; they never send a serial again once a connection was cut, as they have no
idempotency key.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from dataclasses import dataclass, field

import aiohttp
from tests.reliability.site import Shop, Site

from kurir.numbers.numbers import Number

GIVE_UP = 5.0


@dataclass(frozen=True)
class Call:
    """One call as its caller saw it, from when until when (on a monotonic clock).

    `code` is "" when there was no reply, `kind` the reply's `type`.
    """

    serial: str
    account_id: int
    number_key: str
    recipient: str
    text: str
    code: str
    message_id: str
    kind: str = ""
    asked_at: float = 0.0
    answered_at: float = 0.0

    @property
    def seconds(self) -> float:
        """How long the reply took."""
        return self.answered_at - self.asked_at


@dataclass
class Callers:
    """Sends to both channels of all shops until stopped; `log` is the callers' own ledger.

    Where the site has several gateways, each call goes to one of them by chance, as behind a load balancer.
    `official` is the share of calls that goes to the official numbers.
    """

    site: Site
    run: str
    official: float = 0.5
    log: list[Call] = field(default_factory=list)
    _numbers: itertools.count = field(default_factory=itertools.count)
    _stopping: bool = False
    _rng: random.Random = field(default_factory=lambda: random.Random(11))

    async def go(self, messages: int, callers: int = 8, pause: float = 0.0) -> None:
        """Makes `messages` calls from several callers at once."""
        connector = aiohttp.TCPConnector(limit=callers, force_close=True)
        timeout = aiohttp.ClientTimeout(total=GIVE_UP)
        rng = random.Random(self.run)
        plan = iter(
            [(rng.choice(self.site.shops), rng.choice(self.site.people), rng.random()) for _ in range(messages)]
        )
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            await asyncio.gather(*(self._caller(session, plan, pause) for _ in range(callers)))

    def stop(self) -> None:
        """No further calls."""
        self._stopping = True

    async def _caller(self, session, plan, pause: float) -> None:
        for shop, recipient, rng in plan:
            if self._stopping:
                return
            await self._call(session, shop, recipient, official=rng < self.official)
            if pause:
                await asyncio.sleep(pause)

    async def ask(self, target: Site, number: Number, recipient: str) -> str:
        """One call at a certain gateway that waits for the verdict; the code of the reply, "" when there was none."""
        shop = next(shop for shop in self.site.shops if shop.account_id == number.account_id)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=40)) as session:
            return await self._call(
                session, shop, recipient, official=number == shop.official, target=target, sync=True
            )

    async def _call(
        self,
        session: aiohttp.ClientSession,
        shop: Shop,
        recipient: str,
        *,
        official: bool,
        target: Site | None = None,
        sync: bool = False,
    ) -> str:
        serial = f"#{self.run}-{next(self._numbers):06d}"
        text = f"{serial} Pesanan Anda sedang diproses."
        if official:
            number, path = shop.official, "send_meta_personal_message"
            body = {"secret_key": shop.api_key, "licenses_key": number.key, "reciptient": recipient, "message": text}
        else:
            number, path = shop.device, "send_personal_message"
            body = {"api_key": shop.api_key, "number_id": number.key, "phone_no": recipient, "message": text}
        if sync:
            body["method_send"] = "sync"
        code, message_id, kind, asked_at = "", "", "", time.monotonic()
        while not self._stopping or sync:
            url = (target or self._rng.choice([self.site, *self.site.others])).url
            try:
                async with session.post(f"{url}/public/v1/{path}", json=body) as answer:
                    data = await answer.json(content_type=None)
                    code, kind = str(data["code"]), str(data.get("type", ""))
                    message_id = answer.headers.get("X-Message-Id", "")
            except aiohttp.ClientConnectorError:
                asked_at = time.monotonic()
                await asyncio.sleep(0.1)  # nobody listens: surely not stored, so the caller tries again
                continue
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                pass  # the connection was cut: the message may or may not be stored, and both are right
            break
        seen = (kind, asked_at, time.monotonic())
        self.log.append(Call(serial, shop.account_id, number.key, recipient, text, code, message_id, *seen))
        return code
