"""Callbacks: signed POSTs to the app's webhook, kept on disk until it answers 200.

Per official number and person they go out in order, one at a time; different people side by side. Meta retries for
seven days with a growing pause; here the pause starts at 0.2 s and grows to 30 s.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
import sqlite3
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
import structlog

from kurir_sandbox.graph_api.lanes import Lanes
from kurir_sandbox.world import Business, World

_SCHEMA = """
CREATE TABLE IF NOT EXISTS callbacks (
    id INTEGER PRIMARY KEY AUTOINCREMENT, phone_number_id TEXT NOT NULL, person TEXT NOT NULL,
    body BLOB NOT NULL, created REAL NOT NULL)
"""
_FIRST_PAUSE, _LONGEST_PAUSE, _KEPT = 0.2, 30.0, 7 * 24 * 3600.0
_IN_FLIGHT = 64
_TIMEOUT = aiohttp.ClientTimeout(total=20)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Handshake:
    """The outcome of asking a webhook to verify itself; `reason` is empty when it did."""

    reason: str

    @property
    def passed(self) -> bool:
        """Whether the webhook echoed the challenge."""
        return not self.reason


def sign(app_secret: str, body: bytes) -> str:
    """The value of `X-Hub-Signature-256` for the raw bytes `body`."""
    return "sha256=" + hmac.new(app_secret.encode(), body, hashlib.sha256).hexdigest()


def envelope(waba_id: str, field: str, value: dict[str, Any], at: float) -> dict[str, Any]:
    """The outer JSON of a callback with one change."""
    entry = {"id": waba_id, "time": int(at), "changes": [{"value": value, "field": field}]}
    return {"object": "whatsapp_business_account", "entry": [entry]}


class Callbacks:
    """The queue of callbacks in the database `db`; `http` must not follow redirects on its own."""

    def __init__(self, db: sqlite3.Connection, world: World, http: aiohttp.ClientSession) -> None:
        self._db = db
        self._world = world
        self._http = http
        self._lanes = Lanes()
        self._in_flight = asyncio.Semaphore(_IN_FLIGHT)
        db.execute(_SCHEMA)

    def resume(self) -> None:
        """Take up what an earlier run left in the queue."""
        rows = self._db.execute("SELECT id, phone_number_id, person FROM callbacks ORDER BY id").fetchall()
        for row_id, phone_number_id, person in rows:
            self._lanes.add((phone_number_id, person), partial(self._deliver, row_id))

    async def stop(self) -> None:
        """Stop delivering; the queue stays."""
        await self._lanes.stop()

    def forget(self) -> None:
        """Drop everything that waits."""
        self._db.execute("DELETE FROM callbacks")

    def waiting(self) -> int:
        """How many callbacks have not been answered with 200 yet."""
        return self._db.execute("SELECT count(*) FROM callbacks").fetchone()[0]

    def send(self, business: Business, person: str, field: str, value: dict[str, Any]) -> None:
        """Queue one change for the business's webhook; without a webhook nothing is sent, as with Meta."""
        if business.callback_url is None:
            return
        now = time.time()
        body = json.dumps(envelope(business.waba_id, field, value, now), separators=(",", ":")).encode()
        row_id = self._db.execute(
            "INSERT INTO callbacks (phone_number_id, person, body, created) VALUES (?, ?, ?, ?)",
            (business.phone_number_id, person, body, now),
        ).lastrowid
        assert row_id is not None
        self._lanes.add((business.phone_number_id, person), partial(self._deliver, row_id))

    async def verify(self, url: str, verify_token: str) -> Handshake:
        """Ask the webhook at `url` to echo a challenge (Meta, "Verification requests")."""
        challenge = str(secrets.randbelow(9 * 10**9) + 10**9)
        query = {"hub.mode": "subscribe", "hub.challenge": challenge, "hub.verify_token": verify_token}
        try:
            async with self._http.get(url, params=query, timeout=_TIMEOUT, allow_redirects=False) as answer:
                echoed = (await answer.content.read(1024)).decode("utf-8", "replace").strip()
                if answer.status != 200:
                    reason = f"HTTP Status Code = {answer.status}; HTTP Message = {answer.reason}"
                    return Handshake(reason)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return Handshake(f"the URL couldn't be reached: {type(error).__name__}")
        return Handshake("" if echoed == challenge else "response does not match challenge")

    async def _deliver(self, row_id: int) -> None:
        pause = _FIRST_PAUSE
        while row := self._row(row_id):
            phone_number_id, body, created = row
            business = self._world.business(phone_number_id)
            if business is None or business.callback_url is None or time.time() - created > _KEPT:
                break
            if await self._post(business.callback_url, business.app_secret, body, row_id):
                break
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        self._db.execute("DELETE FROM callbacks WHERE id = ?", (row_id,))

    def _row(self, row_id: int) -> tuple[str, bytes, float] | None:
        return self._db.execute(
            "SELECT phone_number_id, body, created FROM callbacks WHERE id = ?", (row_id,)
        ).fetchone()

    async def _post(self, url: str, app_secret: str, body: bytes, row_id: int) -> bool:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "facebookexternalua",
            "X-Hub-Signature-256": sign(app_secret, body),
        }
        try:
            async with (
                self._in_flight,
                self._http.post(url, data=body, headers=headers, timeout=_TIMEOUT, allow_redirects=False) as answer,
            ):
                if answer.status == 200:
                    return True
                log.info("callback_refused", id=row_id, status=answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            log.info("callback_unreachable", id=row_id, error=type(error).__name__)
        return False
