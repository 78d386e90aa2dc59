"""Meta's callbacks as tests make, sign and post them, and what a gateway has stored of them."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import httpx
import sqlalchemy as sa
from tests.harness.gateway import Harness, quarantined

from kurir.inbox.tables import incoming
from kurir.quarantine import quarantine
from kurir.web.meta_callbacks import PATH

SECRET = "secret of the test"


def status(remote_id: str, **more: Any) -> dict[str, Any]:
    """A failed receipt."""
    return {"id": remote_id, "status": "failed", "timestamp": "1799999999", "recipient_id": "628555", **more}


def message(remote_id: str, kind: str = "text", **more: Any) -> dict[str, Any]:
    """A received message of a kind."""
    parts: dict[str, Any] = {
        "text": {"body": "Halo"},
        "image": {"id": "77", "mime_type": "image/png", "caption": "lihat", "filename": "a.png"},
        "location": {"latitude": -6.2, "longitude": 106.8, "name": "Monas", "address": "Jakarta"},
        "interactive": {"type": "button_reply", "button_reply": {"id": "1", "title": "Ya"}},
        "reaction": {"message_id": "wamid.x", "emoji": "👍"},
    }
    head = {"from": "628555", "id": remote_id, "timestamp": "1799999999", "type": kind}
    return {**head, kind: parts.get(kind, {}), "context": {"forwarded": True}, **more}


def change(harness: Harness, field: str = "messages", **value: Any) -> dict[str, Any]:
    """A change about our official number."""
    metadata = {"display_phone_number": "1", "phone_number_id": harness.ours.official.phone_number_id}
    return {"field": field, "value": {"metadata": metadata, **value}}


def callback(harness: Harness, *changes: Any) -> dict[str, Any]:
    """A callback with changes of our business."""
    entry = {"id": harness.ours.official.waba_id, "time": 5, "changes": list(changes)}
    return {"object": "whatsapp_business_account", "entry": [entry]}


async def post(harness: Harness, raw: bytes, secret: str = SECRET, client: httpx.AsyncClient | None = None) -> int:
    """Signs and posts a body; the status of the answer."""
    signature = "sha256=" + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    answer = await (client or harness.client).post(PATH, content=raw, headers={"X-Hub-Signature-256": signature})
    return answer.status_code


def client_at(harness: Harness, address: str) -> httpx.AsyncClient:
    """A client with another address."""
    transport = httpx.ASGITransport(harness.app, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://gateway.test")


async def entries(harness: Harness) -> list[quarantine.Entry]:
    """The quarantine's entries, newest first."""
    return await harness.gateway.database.read(quarantined)


async def stored(harness: Harness) -> set[str]:
    """The remote ids of the received messages."""
    return await harness.gateway.database.read(lambda c: set(c.scalars(sa.select(incoming.c.remote_id))))
