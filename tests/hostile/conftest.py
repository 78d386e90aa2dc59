"""Shared by the tests on the real wire: a sandbox network per module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.e2e.sandbox_network import SandboxNetwork, start_sandbox


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxNetwork]:
    """A running sandbox network with its default people."""
    process = start_sandbox(tmp_path_factory.mktemp("sandbox"))
    yield process
    process.stop()
