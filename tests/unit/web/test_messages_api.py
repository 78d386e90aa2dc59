"""The operator API on messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.harness.gateway import PHONE, Harness, open_harness

from kurir.accounts import accounts
from kurir.accounts.accounts import AccountError
from kurir.messages.channel_reports import InDoubt, Sent
from kurir.reasons import as_written


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as harness:
        yield harness


async def decide(harness: Harness, message: str, decision: str, token: str | None = None) -> httpx.Response:
    token = token or (harness.gateway.settings.data_dir / "operator.token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    return await harness.client.post(f"/api/v1/messages/{message}/{decision}", headers=headers)


async def unconfirmed(harness: Harness) -> str:
    harness.devices.outcome = lambda _: InDoubt(as_written("no answer"))
    answer = await harness.send("send_personal_message", phone_no=PHONE, message="Halo", method_send="sync")
    assert answer.status_code == 408
    return answer.headers["X-Message-Id"]


async def test_a_replay_goes_out_and_a_canceled_message_does_not(harness: Harness):
    first, second = await unconfirmed(harness), await unconfirmed(harness)
    canceled = await decide(harness, second, "cancel")
    assert (canceled.status_code, canceled.json()["state"]) == (200, "canceled")
    assert "Halo" not in canceled.text
    harness.devices.outcome = lambda _: Sent("again")
    replayed = await decide(harness, first, "replay")
    assert (replayed.status_code, replayed.json()["id"], replayed.json()["attempts"]) == (200, first, 0)
    assert len(await harness.until_sent(3)) == 3
    for decision in ("replay", "cancel"):
        refused = await decide(harness, second, decision)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "not_possible")


async def test_ids_that_are_none_and_strangers_are_refused(harness: Harness):
    message = await unconfirmed(harness)
    assert (await decide(harness, message, "replay", "wrong")).status_code == 401
    for wrong, status in (("msg_x", 400), ("17", 400), ("msg_0000000000000", 404)):
        refused = await decide(harness, wrong, "replay")
        assert (refused.status_code, refused.json()["error"]["field"]) == (status, "id")


async def test_an_accounts_settings_are_checked(harness: Harness):
    account_id = harness.ours.account.id

    async def change(**values) -> None:
        await harness.gateway.database.write(lambda c: accounts.change(c, account_id, **values))

    await change(doubt="resend", repeat_guard_seconds=30.0)
    await change()
    found = await harness.gateway.database.read(lambda c: accounts.by_id(c, account_id))
    assert found is not None
    assert (found.doubt, found.repeat_guard_seconds) == ("resend", 30.0)
    assert harness.ours.account.doubt == "hold"
    for wrong, name in (
        ({"doubt": "guess"}, "doubt"),
        ({"repeat_guard_seconds": -1.0}, "repeat_guard_seconds"),
        ({"repeat_guard_seconds": float("nan")}, "repeat_guard_seconds"),
        ({"repeat_guard_seconds": 86_401.0}, "repeat_guard_seconds"),
    ):
        with pytest.raises(AccountError) as refusal:
            await change(**wrong)
        assert refusal.value.field == name
