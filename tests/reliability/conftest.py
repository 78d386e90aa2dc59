"""Fixtures of the reliability tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.webhook_desk import Receiver, WebhookDesk, open_webhook_desk, receiving


@pytest.fixture
async def webhook_desk(where: Path | str) -> AsyncIterator[WebhookDesk]:
    async with open_webhook_desk(where) as desk:
        yield desk


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver
