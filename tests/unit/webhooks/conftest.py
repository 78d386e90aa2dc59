"""The webhooks' fixtures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.webhook_desk import WebhookDesk, open_webhook_desk


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[WebhookDesk]:
    async with open_webhook_desk(tmp_path) as desk:
        yield desk
