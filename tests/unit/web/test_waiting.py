"""Whatever says that a message is queued says what it waits for: every state of a number on every face."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from rich.console import Console
from tests.harness.gateway import PHONE, Harness, open_harness
from tests.harness.webhooks import eventually

from kurir.accounts.tables import accounts
from kurir.cli import message as cli
from kurir.cli import terminal
from kurir.kit.ids import parse_message_id
from kurir.messages.channel_reports import NumberState, TryLater
from kurir.numbers import numbers, status
from kurir.outbox.tables import messages
from kurir.outbox.wait_reasons import reason_of
from kurir.reasons import NOTHING, as_written, read, sentence
from kurir.web.compat_v1 import sending

STATES: dict[str, tuple[str, str]] = {
    "paused": ("kurir number resume {key}", "dijeda"),
    "logged_out": ("pair it again with `kurir number pair {key}`", "tautkan lagi dengan `kurir number pair {key}`"),
    "replaced": ("kurir number pair {key}", "digantikan"),
    "outdated": ("upgrade Kurir", "perbarui Kurir"),
    "banned": ("banned", "memblokir"),
    "degraded": ("does not answer", "tidak menjawab"),
    "connecting": ("is not connected", "belum tersambung"),
    "pairing": ("is being paired", "sedang ditautkan"),
    "disconnected": ("is not paired with a phone: `kurir number pair {key}`", "belum ditautkan"),
}
NEVER = {"paused", "logged_out", "replaced", "outdated", "banned"}
"""States in which a code surely cannot arrive in time."""


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, sync_timeout=0.05) as harness:
        yield harness


async def becomes(harness: Harness, state: str, *, official: bool = False) -> str:
    """The number is in that state, for a reason; returns its key."""
    number = harness.ours.official if official else harness.ours.device
    if state == "paused":
        pause = partial(status.pause, reason=as_written("because {of} it"), now=1.0)
        await harness.gateway.database.write(lambda c: pause(c, number.account_id, number.id))
        return number.key
    (harness.cloud if official else harness.devices).connected = False
    await harness.gateway.database.write(
        lambda c: numbers.set_state(
            c, number.account_id, number.id, cast("NumberState", state), reason=as_written("because {of} it"), at=1.0
        )
    )
    return number.key


async def speaks(harness: Harness, language: str) -> None:
    await harness.gateway.database.write(
        lambda c: c.execute(
            sa.update(accounts).where(accounts.c.id == harness.ours.account.id).values(language=language)
        )
    )


@pytest.mark.parametrize("language", ["en", "id"])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("path", ["send_personal_message", "send_group_message"])
async def test_a_sync_answer_says_what_the_message_waits_for(
    harness: Harness, path: str, state: str, language: str
) -> None:
    await speaks(harness, language)
    key = await becomes(harness, state)
    fields = {"phone_no": PHONE} if "personal" in path else {"group_id": "120363322806000000"}
    answer = await harness.send(path, message="x", method_send="sync", **fields)
    assert answer.status_code == 408
    assert set(answer.json()) == {"code", "message", "type"}
    assert STATES[state][language == "id"].format(key=key) in answer.json()["message"]
    if state != "disconnected":
        assert "because {of} it" in answer.json()["message"]
    assert (await harness.rows())["messages"] == 1


@pytest.mark.parametrize("state", STATES)
async def test_a_code_that_cannot_arrive_in_time_is_refused_and_nothing_is_stored(harness: Harness, state: str) -> None:
    key = await becomes(harness, state)
    answer = await harness.send("send_otp", phone_no=PHONE, lifetime=60)
    rows = await harness.rows()
    if state in NEVER:
        assert (answer.status_code, answer.json()["type"]) == (408, "timeout")
        assert STATES[state][0].format(key=key) in answer.json()["message"]
        assert (rows["messages"], rows["otps"], rows["idempotency"]) == (0, 0, 0)
    else:
        assert answer.status_code == 200
        assert (rows["messages"], rows["otps"]) == (1, 1)


async def test_a_code_to_a_first_contact_of_a_restricted_device_is_refused(harness: Harness) -> None:
    number, now = harness.ours.device, harness.gateway.clock()
    await harness.gateway.database.write(
        lambda c: numbers.set_state(c, number.account_id, number.id, "connected", reason=NOTHING, at=now)
    )

    async def restrict(seconds: float) -> None:
        until = numbers.Restriction(harness.gateway.clock() + seconds, seconds)
        await harness.gateway.database.write(lambda c: numbers.set_restriction(c, number.account_id, number.id, until))

    await restrict(600)
    refused = await harness.send("send_otp", phone_no=PHONE, lifetime=60)
    assert (refused.status_code, "write to nobody new" in refused.json()["message"]) == (408, True)
    assert (await harness.rows())["otps"] == 0
    assert (await harness.send("send_otp", phone_no=PHONE, lifetime=3600)).status_code == 200


async def test_a_code_from_a_removed_device_is_refused(harness: Harness) -> None:
    assert (await harness.send("send_otp", phone_no=PHONE)).status_code == 200
    await harness.gateway.database.write(lambda c: c.execute(sa.text("UPDATE numbers SET removed_at = 1.0")))
    answer = await harness.send("send_otp", phone_no=PHONE)
    assert answer.status_code == 404
    assert (await harness.rows())["otps"] == 1


@pytest.mark.parametrize("method", ["async", "sync"])
async def test_an_official_number_says_what_it_waits_for(harness: Harness, method: str) -> None:
    fields = await harness.furnish()
    key = await becomes(harness, "paused", official=True)
    answer = await harness.send("send_meta_personal_message", message="x", method_send=method, reciptient=PHONE)
    assert answer.json()["code"] == ("408" if method == "sync" else "200")
    assert f"kurir number resume {key}" in answer.json()["message"]["detail"]
    if method == "sync":
        template = await harness.send(
            "send_message_template", recipients=PHONE, method_send="sync", **fields["send_message_template"]
        )
        assert template.status_code == 408
        assert f"kurir number resume {key}" in template.json()["message"]


async def test_behind_an_earlier_message_and_a_later_try_are_reported(harness: Harness) -> None:
    harness.devices.outcome = lambda _: TryLater("429", as_written("too many requests"), after=300.0)
    first = await harness.send("send_personal_message", phone_no=PHONE, message="x")
    message_id = parse_message_id(first.headers["X-Message-Id"])
    assert message_id is not None
    await eventually(lambda: _error_code(harness, message_id), "429")
    waiting = await harness.gateway.services.message_actions.waits_for(harness.ours.account.id, message_id)
    assert "it is tried again in" in sentence(reason_of(waiting), "en")
    assert "(too many requests)" in sentence(reason_of(waiting), "en")
    second = await harness.send("send_personal_message", phone_no=PHONE, message="y", method_send="sync")
    assert "an earlier message to the same recipient" in second.json()["message"]


async def _error_code(harness: Harness, message_id: int) -> str:
    code = sa.select(messages.c.error_code).where(messages.c.id == message_id)
    return str(await harness.gateway.database.read(lambda c: c.execute(code).scalar()))


@pytest.mark.parametrize("state", STATES)
async def test_the_command_line_says_it(
    harness: Harness, state: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = await becomes(harness, state)
    sent = await harness.send("send_personal_message", phone_no=PHONE, message="x")
    monkeypatch.setenv("KURIR_DATA_DIR", str(harness.gateway.settings.data_dir))
    monkeypatch.setattr(terminal, "_out", Console(highlight=False, width=400))
    words = STATES[state][0].format(key=key)
    await asyncio.to_thread(cli.list_, harness.ours.account.email)
    assert words in " ".join(capsys.readouterr().out.split())
    await asyncio.to_thread(cli.show, sent.headers["X-Message-Id"])
    assert words in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("state", STATES)
async def test_an_event_and_the_operator_api_say_it(harness: Harness, state: str) -> None:
    key = await becomes(harness, state)
    sent = await harness.send("send_personal_message", phone_no=PHONE, message="x")
    await harness.gateway.database.write(lambda c: c.execute(sa.update(messages).values(expires_at=1.0)))
    await harness.gateway.outbox.expire()
    row: Any = await harness.gateway.database.read(lambda c: c.execute(sa.select(messages)).one())
    assert (row.state, row.error_code) == ("expired", "expired")
    assert STATES[state][0].format(key=key) in sentence(read(row.error_reason), "en")
    token = (harness.gateway.settings.data_dir / "operator.token").read_text().strip()
    replayed = await harness.client.post(
        f"/api/v1/messages/{sent.headers['X-Message-Id']}/replay", headers={"Authorization": f"Bearer {token}"}
    )
    assert STATES[state][0].format(key=key) in replayed.json()["waits_for"]


@pytest.mark.parametrize(("language", "words"), [("en", "its file, which is being fetched"), ("id", "berkasnya")])
async def test_a_message_whose_file_hangs_says_so(harness: Harness, language: str, words: str) -> None:
    await speaks(harness, language)
    asked = asyncio.Event()

    async def hangs(*_of_message: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    harness.gateway.media.prepare = hangs  # type: ignore[method-assign,assignment]
    answer = await harness.send(
        "send_personal_message", phone_no=PHONE, image_url="https://files.example.com/a.png", method_send="sync"
    )
    await asked.wait()
    assert answer.status_code == 408
    assert words in answer.json()["message"]


async def test_a_caller_of_a_paused_device_is_answered_soon(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_NOT_READY", 0.01)
    number = harness.ours.device
    await harness.gateway.services.numbers.pause(number.account_id, number.key)
    answer = await harness.send("send_personal_message", phone_no=PHONE, message="x", method_send="sync")
    assert "within 0.01 seconds" in answer.json()["message"]
    assert f"kurir number resume {number.key}" in answer.json()["message"]
