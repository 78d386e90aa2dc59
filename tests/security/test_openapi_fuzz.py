"""Schemathesis over the generated OpenAPI document: requests that fit it and requests that do not, none a mistake.

Every answer must have a documented code, the documented content type and the documented shape, never a 5xx.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.harness.gateway import open_harness

from kurir.web.compat_v1 import openapi
from kurir.web.compat_v1.endpoint_table import ENDPOINTS

CASES = int(os.environ.get("KURIR_FUZZ_CASES", "20"))
"""Requests per endpoint; 15 endpoints."""


@dataclass
class Served:
    """A gateway on loopback: its address, credentials, furnished fields by endpoint, and its count of mistakes."""

    url: str
    credentials: dict[str, str]
    furnished: dict[str, dict[str, Any]]
    surprises: float = -1.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real server in a thread of its own, so that Schemathesis can be the synchronous client it is."""
    ready, found = threading.Event(), []
    folder: Path = tmp_path_factory.mktemp("fuzz")

    async def serve() -> None:
        async with open_harness(folder, meta_answer_timeout=0.01, sync_timeout=0.01) as harness:
            harness.devices.connected = harness.cloud.connected = False
            config = uvicorn.Config(harness.app, port=0, lifespan="off", log_config=None, access_log=False)
            server = uvicorn.Server(config)
            furnished = await harness.furnish()
            work = asyncio.create_task(server.serve())
            async with asyncio.timeout(20):
                while not server.started:
                    await asyncio.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            known = Served(f"http://127.0.0.1:{port}", harness.ours.credentials(), furnished)
            found.extend([known, lambda: loop.call_soon_threadsafe(stop.set)])
            ready.set()
            await stop.wait()
            known.surprises = harness.surprises()
            server.should_exit = True
            await work

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="gateway")
    thread.start()
    assert ready.wait(30)
    known, stop = found
    yield known
    stop()
    thread.join(30)
    assert known.surprises == 0


schema = schemathesis.openapi.from_dict(openapi.document(ENDPOINTS, "http://127.0.0.1"))
schema.config.generation.update(modes=list(schemathesis.GenerationMode))


@schema.parametrize()
@settings(
    max_examples=CASES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_meets_a_mistake(case: schemathesis.Case, served: Served) -> None:
    if isinstance(case.body, dict):
        # most cases get past the credentials; the other tests of this folder spoil those
        path = case.path.rpartition("/")[2]
        case.body = case.body | served.credentials | served.furnished.get(path, {}) if len(case.body) % 4 else case.body
    case.call_and_validate(
        base_url=served.url,
        checks=[not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance],
        timeout=30,
    )
