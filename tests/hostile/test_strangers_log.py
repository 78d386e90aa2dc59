"""Who is not known here cannot fill the log: what is refused to strangers is summed up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.gateway_fixture import Front, open_front

from kurir.kit import log_limit

REFUSED = {"request_refused", "strangers_refused"}


async def flood(front: Front) -> int:
    """Requests that nobody known makes; how many."""
    bodies: list[Any] = [{"api_key": "x" * 40}, {}, [], {"api_key": ""}, {"api_key": {"a": 1}}]
    answers = [await front.post("info", body) for body in bodies for _ in range(10)]
    answers += [await front.client.post("/public/v1/info", content=b"{") for _ in range(10)]
    assert all(answer.status_code in (400, 403, 405) for answer in answers), {answer.status_code for answer in answers}
    return len(answers)


async def test_a_flood_of_strangers_is_one_line_and_an_accounts_request_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_limit, "EVERY", 2.0)
    async with open_front(tmp_path) as front:
        with capture_logs() as logs:
            for _ in range(2):  # and again, when the first was said
                logs.clear()
                count = await flood(front)
                await front.send("send_otp", number_id="BO-nobody")
                async with asyncio.timeout(10):
                    while sum(sum(line["reasons"].values()) for line in logs if "reasons" in line) < count:
                        await asyncio.sleep(0.01)
                refusals = [line for line in logs if line["event"] in REFUSED]
                assert [line["event"] for line in refusals] == ["request_refused", "strangers_refused"]
                assert refusals[0]["account_id"] == front.ours.account.id
                assert refusals[1]["reasons"]["invalid_api_key"] >= 10
