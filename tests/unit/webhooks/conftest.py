"""The webhooks' fixtures: every test runs on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.harness.webhooks import WebhookHarness, open_webhook_harness


@pytest.fixture
async def harness(where: Path | str) -> AsyncIterator[WebhookHarness]:
    async with open_webhook_harness(where) as harness:
        yield harness
