"""Shared by the end-to-end tests: a sandbox network per module, one demo for all tests that only use it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from tests.e2e.demo_process import DemoProcess
from tests.e2e.sandbox_network import SandboxNetwork, start_sandbox


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxNetwork]:
    """A running sandbox network with its default people."""
    process = start_sandbox(tmp_path_factory.mktemp("sandbox"))
    yield process
    process.stop()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoProcess]:
    """A running demo."""
    demo = DemoProcess(tmp_path_factory.mktemp("demo") / "data").start()
    yield demo
    assert demo.stop() == 0, demo.explain()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client that opens a connection for each request, as servers are killed under it."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session
