"""Callbacks: signed POSTs to the app's webhook, kept on disk until it answers 200.

Per official number and person they go out in order, one at a time; different people side by side. Meta retries for
seven days with a growing pause; here the pause starts at 0.2 s and grows to 30 s. Faults (late, swapped, doubled) act
when a callback is queued; a restart ends them, and what waits goes out in order.
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

from kurir_sandbox.faults import Faults, Occasion
from kurir_sandbox.graph_api.lanes import Job, Lanes
from kurir_sandbox.world import Business, World

_SCHEMA = """
CREATE TABLE IF NOT EXISTS callbacks (
    id INTEGER PRIMARY KEY AUTOINCREMENT, phone_number_id TEXT NOT NULL, person TEXT NOT NULL,
    body BLOB NOT NULL, created REAL NOT NULL)
"""
_FIRST_PAUSE, _LONGEST_PAUSE, _KEPT = 0.2, 30.0, 7 * 24 * 3600.0
_IN_FLIGHT = 64
_SWAP_TIMEOUT, _ACKNOWLEDGED_WITHIN = 5.0, 5.0
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


def kind_of(value: dict[str, Any]) -> tuple[str, str]:
    """The kind of a callback's value (see `faults.CALLBACKS`), and the wire id of the message, if it is about one."""
    for status in value.get("statuses", ()):
        return status["status"], status["id"]
    for message in value.get("messages", ()):
        return "message", message["id"]
    return "template", ""


class Callbacks:
    """The queue of callbacks in the database `db`; `http` must not follow redirects on its own."""

    def __init__(self, db: sqlite3.Connection, world: World, http: aiohttp.ClientSession, faults: Faults) -> None:
        self._db = db
        self._world = world
        self._http = http
        self._faults = faults
        self._lanes = Lanes()
        self._in_flight = asyncio.Semaphore(_IN_FLIGHT)
        self._swapped: dict[tuple[str, str], tuple[Job, asyncio.TimerHandle]] = {}
        self._awaited: dict[str, asyncio.Event] = {}
        db.execute(_SCHEMA)

    def resume(self) -> None:
        """Take up what an earlier run left in the queue."""
        rows = self._db.execute("SELECT id, phone_number_id, person FROM callbacks ORDER BY id").fetchall()
        for row_id, phone_number_id, person in rows:
            self._lanes.add((phone_number_id, person), partial(self._deliver, row_id, ""))

    async def stop(self) -> None:
        """Stop delivering; the queue stays."""
        for _, timer in self._swapped.values():
            timer.cancel()
        self._swapped.clear()
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
        kind, wire_id = kind_of(value)
        occasion = Occasion("cloud_api", business.phone, person, kind)
        if self._faults.strike(occasion, "withhold_callback"):
            return
        now = time.time()
        body = json.dumps(envelope(business.waba_id, field, value, now), separators=(",", ":")).encode()
        ends = wire_id if kind in ("delivered", "failed") else ""
        lane = (business.phone_number_id, person)
        self._queue(lane, self._store(*lane, body, now), ends, occasion)
        if self._faults.strike(occasion, "duplicate_callback"):
            self._lanes.add(lane, partial(self._deliver, self._store(*lane, body, now), ends))

    async def until_acknowledged(self, wire_id: str, seconds: float | None = None) -> None:
        """Wait until the webhook has taken "delivered" or "failed" of the message; at most `seconds` (default 5).

        To be asked before the message can be on its way, that is without an await after its acceptance.
        """
        acknowledged = self._awaited.setdefault(wire_id, asyncio.Event())
        try:
            await asyncio.wait_for(acknowledged.wait(), _ACKNOWLEDGED_WITHIN if seconds is None else seconds)
        except TimeoutError:
            log.info("webhook_timed_out", wire_id=wire_id)
        finally:
            self._awaited.pop(wire_id, None)

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

    def _store(self, phone_number_id: str, person: str, body: bytes, now: float) -> int:
        row_id = self._db.execute(
            "INSERT INTO callbacks (phone_number_id, person, body, created) VALUES (?, ?, ?, ?)",
            (phone_number_id, person, body, now),
        ).lastrowid
        assert row_id is not None
        return row_id

    def _queue(self, lane: tuple[str, str], row_id: int, ends: str, occasion: Occasion) -> None:
        """Put a row into its lane, or where a fault wants it; `ends` is the wire id of the message it ends."""
        job = partial(self._deliver, row_id, ends)
        if late := self._faults.strike(occasion, "late_callback"):
            self._lanes.add((*lane, row_id), partial(self._deliver, row_id, ends, late.seconds or 0))
            return
        if lane not in self._swapped and (swap := self._faults.strike(occasion, "swap_callback")):
            timeout = _SWAP_TIMEOUT if swap.seconds is None else swap.seconds
            timer = asyncio.get_running_loop().call_later(timeout, self._release, lane, job)
            self._swapped[lane] = (job, timer)
            return
        self._lanes.add(lane, job)
        if held := self._swapped.pop(lane, None):
            held[1].cancel()
            self._lanes.add(lane, held[0])

    def _release(self, lane: tuple[str, str], job: Job) -> None:
        """No other callback came for it to be swapped with."""
        self._swapped.pop(lane, None)
        self._lanes.add(lane, job)

    async def _deliver(self, row_id: int, ends: str, late: float = 0.0) -> None:
        if late:
            await asyncio.sleep(late)
        pause = _FIRST_PAUSE
        while row := self._row(row_id):
            phone_number_id, body, created = row
            business = self._world.business(phone_number_id)
            if business is None or business.callback_url is None or time.time() - created > _KEPT:
                break
            if await self._post(business.callback_url, business.app_secret, body, row_id):
                if ends in self._awaited:
                    self._awaited[ends].set()
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
