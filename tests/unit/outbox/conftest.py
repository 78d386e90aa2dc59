"""The outbox's fixtures: every test runs on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.harness.outbox import OutboxHarness, open_outbox_harness


@pytest.fixture
async def harness(where: Path | str) -> AsyncIterator[OutboxHarness]:
    async with open_outbox_harness(where) as harness:
        yield harness
