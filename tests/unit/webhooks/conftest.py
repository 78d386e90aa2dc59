"""The webhooks' fixtures: every test runs on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.webhook_desk import WebhookDesk, open_webhook_desk


@pytest.fixture
async def desk(where: Path | str) -> AsyncIterator[WebhookDesk]:
    async with open_webhook_desk(where) as desk:
        yield desk
