"""Fixtures of the reliability tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.harness.webhooks import Receiver, WebhookHarness, open_webhook_harness, receiving


@pytest.fixture
async def webhook_harness(where: Path | str) -> AsyncIterator[WebhookHarness]:
    async with open_webhook_harness(where) as harness:
        yield harness


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver
