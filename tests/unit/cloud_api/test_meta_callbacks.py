"""Meta's door when the database cannot store: no 200, so that Meta comes again, and nothing is stored twice."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.gateway_fixture import Front, open_front

from kurir.channels.cloud_api.credentials import Credentials
from kurir.inbox import Inbox
from kurir.store.database import DatabaseUnavailable
from kurir.web.meta_callbacks import PATH

SECRET = "secret of the test"


@pytest.fixture
async def front(tmp_path: Path, database_url: str) -> AsyncIterator[Front]:
    async with open_front(tmp_path, database_url=database_url) as front:
        gateway = front.gateway
        front.cloud.credentials = Credentials(gateway.database, gateway.sealing, gateway.clock)  # type: ignore[attr-defined]
        yield front


def callback(front: Front, count: int = 1) -> bytes:
    official = front.ours.official
    statuses = [{"id": f"wamid.{index}", "status": "sent", "timestamp": "1"} for index in range(count)]
    value = {"metadata": {"phone_number_id": official.phone_number_id}, "statuses": statuses}
    changes = [{"field": "messages", "value": value}]
    return json.dumps({"entry": [{"id": official.waba_id, "changes": changes}]}).encode()


async def post(front: Front, raw: bytes) -> int:
    signature = "sha256=" + hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()
    answer = await front.client.post(PATH, content=raw, headers={"X-Hub-Signature-256": signature})
    return answer.status_code


async def test_what_cannot_be_stored_is_not_acknowledged(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = callback(front)

    async def full(*_: Any) -> int:
        raise DatabaseUnavailable("disk full")

    with monkeypatch.context() as broken:
        broken.setattr(Inbox, "take", full)
        assert await post(front, raw) == 503
    assert (await front.rows())["callbacks"] == 0
    assert await post(front, raw) == 200
    assert (await front.rows())["callbacks"] == 1
    assert front.surprises() == 0


async def test_many_statuses_in_one_post(front: Front) -> None:
    raw = callback(front, count=500)
    assert await post(front, raw) == 200
    assert await post(front, raw) == 200
    assert (await front.rows())["callbacks"] == 500
    counted = front.gateway.metrics.render().decode()
    assert 'kurir_callbacks_total{result="stored"} 1.0' in counted
    assert 'kurir_callbacks_total{result="duplicate"} 1.0' in counted
