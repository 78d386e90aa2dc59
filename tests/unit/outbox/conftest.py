"""The outbox's fixtures: every test runs on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.outbox.desk import Desk, open_desk


@pytest.fixture
async def desk(where: Path | str) -> AsyncIterator[Desk]:
    async with open_desk(where) as desk:
        yield desk
