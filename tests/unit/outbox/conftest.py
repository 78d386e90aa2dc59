"""The outbox's fixtures: every test runs on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.outbox.harness import Harness, open_harness


@pytest.fixture
async def harness(where: Path | str) -> AsyncIterator[Harness]:
    async with open_harness(where) as harness:
        yield harness
