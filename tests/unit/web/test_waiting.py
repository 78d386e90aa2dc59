"""Whatever says that a message is queued says what it waits for: every state of a number on every face."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from rich.console import Console
from tests.gateway_fixture import PHONE, Front, open_front

from kurir.accounts.tables import accounts
from kurir.cli import message as cli
from kurir.cli import terminal
from kurir.messages.reports import TryLater
from kurir.numbers import numbers
from kurir.numbers.numbers import NumberState
from kurir.outbox.tables import messages
from kurir.reasons import NOTHING, as_written, read, sentence

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
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    async with open_front(tmp_path, sync_timeout=0.05) as front:
        yield front


async def becomes(front: Front, state: str, *, official: bool = False) -> str:
    """The number is in that state, for a reason; returns its key."""
    number = front.ours.official if official else front.ours.device
    (front.cloud if official else front.devices).connected = False
    await front.gateway.database.write(
        lambda c: numbers.set_state(
            c, number.account_id, number.id, cast("NumberState", state), reason=as_written("because {of} it"), at=1.0
        )
    )
    return number.key


async def speaks(front: Front, language: str) -> None:
    await front.gateway.database.write(
        lambda c: c.execute(sa.update(accounts).where(accounts.c.id == front.ours.account.id).values(language=language))
    )


@pytest.mark.parametrize("language", ["en", "id"])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("path", ["send_personal_message", "send_group_message"])
async def test_a_sync_answer_says_what_the_message_waits_for(
    front: Front, path: str, state: str, language: str
) -> None:
    await speaks(front, language)
    key = await becomes(front, state)
    fields = {"phone_no": PHONE} if "personal" in path else {"group_id": "120363322806000000"}
    answer = await front.send(path, message="x", method_send="sync", **fields)
    assert answer.status_code == 408
    assert set(answer.json()) == {"code", "message", "type"}
    assert STATES[state][language == "id"].format(key=key) in answer.json()["message"]
    if state != "disconnected":
        assert "because {of} it" in answer.json()["message"]
    assert (await front.rows())["messages"] == 1


@pytest.mark.parametrize("state", STATES)
async def test_a_code_that_cannot_arrive_in_time_is_refused_and_nothing_is_stored(front: Front, state: str) -> None:
    key = await becomes(front, state)
    answer = await front.send("send_otp", phone_no=PHONE, lifetime=60)
    rows = await front.rows()
    if state in NEVER:
        assert (answer.status_code, answer.json()["type"]) == (408, "timeout")
        assert STATES[state][0].format(key=key) in answer.json()["message"]
        assert (rows["messages"], rows["otps"], rows["idempotency"]) == (0, 0, 0)
    else:
        assert answer.status_code == 200
        assert (rows["messages"], rows["otps"]) == (1, 1)


async def test_a_code_to_a_first_contact_of_a_restricted_device_is_refused(front: Front) -> None:
    number, now = front.ours.device, front.gateway.clock()
    await front.gateway.database.write(
        lambda c: numbers.set_state(c, number.account_id, number.id, "connected", reason=NOTHING, at=now)
    )

    async def restrict(seconds: float) -> None:
        until = numbers.Restriction(front.gateway.clock() + seconds, seconds)
        await front.gateway.database.write(lambda c: numbers.set_restriction(c, number.account_id, number.id, until))

    await restrict(600)
    refused = await front.send("send_otp", phone_no=PHONE, lifetime=60)
    assert (refused.status_code, "write to nobody new" in refused.json()["message"]) == (408, True)
    assert (await front.rows())["otps"] == 0
    assert (await front.send("send_otp", phone_no=PHONE, lifetime=3600)).status_code == 200


async def test_a_code_from_a_removed_device_is_refused(front: Front) -> None:
    assert (await front.send("send_otp", phone_no=PHONE)).status_code == 200
    await front.gateway.database.write(lambda c: c.execute(sa.text("UPDATE numbers SET removed_at = 1.0")))
    answer = await front.send("send_otp", phone_no=PHONE)
    assert answer.status_code == 404
    assert (await front.rows())["otps"] == 1


@pytest.mark.parametrize("method", ["async", "sync"])
async def test_an_official_number_says_what_it_waits_for(front: Front, method: str) -> None:
    fields = await front.furnish()
    key = await becomes(front, "paused", official=True)
    answer = await front.send("send_meta_personal_message", message="x", method_send=method, reciptient=PHONE)
    assert answer.json()["code"] == ("408" if method == "sync" else "200")
    assert f"kurir number resume {key}" in answer.json()["message"]["detail"]
    if method == "sync":
        template = await front.send(
            "send_message_template", recipients=PHONE, method_send="sync", **fields["send_message_template"]
        )
        assert template.status_code == 408
        assert f"kurir number resume {key}" in template.json()["message"]


async def test_behind_an_earlier_message_and_a_later_try_are_reported(front: Front) -> None:
    front.devices.outcome = lambda _: TryLater("429", as_written("too many requests"), after=300.0)
    first = await front.send("send_personal_message", phone_no=PHONE, message="x", method_send="sync")
    second = await front.send("send_personal_message", phone_no=PHONE, message="y", method_send="sync")
    assert "it is tried again in" in first.json()["message"]
    assert "(too many requests)" in first.json()["message"]
    assert "an earlier message to the same recipient" in second.json()["message"]


@pytest.mark.parametrize("state", STATES)
async def test_the_command_line_says_it(
    front: Front, state: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = await becomes(front, state)
    sent = await front.send("send_personal_message", phone_no=PHONE, message="x")
    monkeypatch.setenv("KURIR_DATA_DIR", str(front.gateway.settings.data_dir))
    monkeypatch.setattr(terminal, "_out", Console(highlight=False, width=400))
    words = STATES[state][0].format(key=key)
    await asyncio.to_thread(cli.list_, front.ours.account.email)
    assert words in " ".join(capsys.readouterr().out.split())
    await asyncio.to_thread(cli.show, sent.headers["X-Message-Id"])
    assert words in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("state", STATES)
async def test_an_event_and_the_operator_api_say_it(front: Front, state: str) -> None:
    key = await becomes(front, state)
    sent = await front.send("send_personal_message", phone_no=PHONE, message="x")
    await front.gateway.database.write(lambda c: c.execute(sa.update(messages).values(expires_at=1.0)))
    await front.gateway.outbox.expire()
    row: Any = await front.gateway.database.read(lambda c: c.execute(sa.select(messages)).one())
    assert (row.state, row.error_code) == ("expired", "expired")
    assert STATES[state][0].format(key=key) in sentence(read(row.error_reason), "en")
    token = (front.gateway.settings.data_dir / "operator.token").read_text().strip()
    replayed = await front.client.post(
        f"/api/v1/messages/{sent.headers['X-Message-Id']}/replay", headers={"Authorization": f"Bearer {token}"}
    )
    assert STATES[state][0].format(key=key) in replayed.json()["waits_for"]


@pytest.mark.parametrize(("language", "words"), [("en", "its file, which is being fetched"), ("id", "berkasnya")])
async def test_a_message_whose_file_hangs_says_so(front: Front, language: str, words: str) -> None:
    await speaks(front, language)
    asked = asyncio.Event()

    async def hangs(*_of_message: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    front.gateway.media.prepare = hangs  # type: ignore[method-assign,assignment]
    answer = await front.send(
        "send_personal_message", phone_no=PHONE, image_url="https://files.example.com/a.png", method_send="sync"
    )
    await asked.wait()
    assert answer.status_code == 408
    assert words in answer.json()["message"]
