"""Meta's door when the database cannot store: no 200, so that Meta comes again, and nothing is stored twice."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.gateway import Harness, open_harness

from kurir.channels.cloud_api.credentials import Credentials
from kurir.inbox import Inbox
from kurir.store.database import DatabaseUnavailable
from kurir.web.meta_callbacks import PATH

SECRET = "secret of the test"


@pytest.fixture
async def harness(tmp_path: Path, database_url: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database_url) as harness:
        gateway = harness.gateway
        harness.cloud.credentials = Credentials(gateway.database, gateway.sealing, gateway.clock)  # type: ignore[attr-defined]
        yield harness


def callback(harness: Harness, count: int = 1) -> bytes:
    official = harness.ours.official
    statuses = [{"id": f"wamid.{index}", "status": "sent", "timestamp": "1"} for index in range(count)]
    value = {"metadata": {"phone_number_id": official.phone_number_id}, "statuses": statuses}
    changes = [{"field": "messages", "value": value}]
    return json.dumps({"entry": [{"id": official.waba_id, "changes": changes}]}).encode()


async def post(harness: Harness, raw: bytes) -> int:
    signature = "sha256=" + hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()
    answer = await harness.client.post(PATH, content=raw, headers={"X-Hub-Signature-256": signature})
    return answer.status_code


async def test_what_cannot_be_stored_is_not_acknowledged(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = callback(harness)

    async def full(*_: Any) -> int:
        raise DatabaseUnavailable("disk full")

    with monkeypatch.context() as broken:
        broken.setattr(Inbox, "take", full)
        assert await post(harness, raw) == 503
    assert (await harness.rows())["callbacks"] == 0
    assert await post(harness, raw) == 200
    assert (await harness.rows())["callbacks"] == 1
    assert harness.surprises() == 0


async def test_many_statuses_in_one_post(harness: Harness) -> None:
    raw = callback(harness, count=500)
    assert await post(harness, raw) == 200
    assert await post(harness, raw) == 200
    assert (await harness.rows())["callbacks"] == 500
    counted = harness.gateway.metrics.render().decode()
    assert 'kurir_callbacks_total{result="stored"} 1.0' in counted
    assert 'kurir_callbacks_total{result="duplicate"} 1.0' in counted
