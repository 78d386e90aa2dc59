"""Who is not known here cannot fill the log: what is refused to strangers is summed up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.harness.gateway import Harness, open_harness

from kurir.kit import log_limit

REFUSED = {"request_refused", "strangers_refused"}


async def flood(harness: Harness) -> int:
    """Requests that nobody known makes; how many."""
    bodies: list[Any] = [{"api_key": "x" * 40}, {}, [], {"api_key": ""}, {"api_key": {"a": 1}}]
    answers = [await harness.post("info", body) for body in bodies for _ in range(10)]
    answers += [await harness.client.post("/public/v1/info", content=b"{") for _ in range(10)]
    assert all(answer.status_code in (400, 403, 405) for answer in answers), {answer.status_code for answer in answers}
    return len(answers)


async def test_a_flood_of_strangers_is_one_line_and_an_accounts_request_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_limit, "EVERY", 2.0)
    async with open_harness(tmp_path) as harness:
        with capture_logs() as logs:
            for _ in range(2):  # and again, when the first was said
                logs.clear()
                count = await flood(harness)
                await harness.send("send_otp", number_id="BO-nobody")
                async with asyncio.timeout(10):
                    while sum(sum(line["reasons"].values()) for line in logs if "reasons" in line) < count:
                        await asyncio.sleep(0.01)
                refusals = [line for line in logs if line["event"] in REFUSED]
                assert [line["event"] for line in refusals] == ["request_refused", "strangers_refused"]
                assert refusals[0]["account_id"] == harness.ours.account.id
                assert refusals[1]["reasons"]["invalid_api_key"] >= 10
