"""Fixtures of the linked-device wire's unit tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .raw_device import Stage


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path)
    await stage.network.start()
    await stage.link()
    yield stage
    await stage.phones.stop()
    await stage.network.stop()
    await stage.ledger.close()
    stage.world.close()
