"""Which doors a process opens, by its roles."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.harness.gateway import open_harness

HEALTH = {"/healthz", "/readyz", "/metrics"}
CALLERS = {"/public/v1/info", "/api/v1/numbers", "/meta/callbacks", "/"}


@pytest.mark.parametrize(
    ("roles", "opened"),
    [
        (("dispatch",), HEALTH),
        (("webhooks",), HEALTH),
        (("dispatch", "webhooks"), HEALTH),
        (("api",), HEALTH | CALLERS),
    ],
)
async def test_only_a_process_that_answers_calls_has_their_endpoints(
    tmp_path: Path, roles: tuple[str, ...], opened: set[str]
):
    async with open_harness(tmp_path, roles=roles) as harness:
        found = set()
        for path in HEALTH | CALLERS:
            with_key = harness.ours.credentials() if path.startswith("/public") else None
            answers = [await harness.client.get(path), await harness.client.post(path, json=with_key)]
            if any(answer.status_code != 404 for answer in answers):
                found.add(path)
        assert found == opened
