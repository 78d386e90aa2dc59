"""The same functions by two faces: the operator API of a gateway, and commands over its data folder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.harness.gateway import Harness, open_harness
from tests.sentences import english

from kurir.cli import account, contacts, message, number, quarantine
from kurir.cli.terminal import CommandError
from kurir.data_folder import ReadyFile, write_ready_file
from kurir.messages.channel_reports import TryLater
from kurir.reasons import as_written
from kurir.services.accounts import Accounts
from kurir.store.database import DatabaseUnavailable

OFFICIAL = {
    "phone": "+62 811-0000-0009",
    "phone_number_id": "77",
    "waba_id": "78",
    "app_id": "79",
    "access_token": "token",
    "app_secret": "secret",
    "verify_token": "verify",
}


@pytest.fixture
async def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Harness]:
    monkeypatch.setenv("KURIR_DATA_DIR", str(tmp_path))
    async with open_harness(tmp_path) as harness:
        yield harness


async def ask(harness: Harness, method: str, path: str, body: Any = None, language: str = "") -> httpx.Response:
    token = (harness.gateway.settings.data_dir / "operator.token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}", "Accept-Language": language}
    return await harness.client.request(method, f"/api/v1{path}", json=body, headers=headers)


def error(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()["error"]
    assert body["message"]
    return answer.status_code, body["code"], body["field"]


async def test_an_official_number_by_the_operator_api(harness: Harness) -> None:
    path = f"/numbers/{harness.ours.official.key}"
    paused = await ask(harness, "POST", f"{path}/pause", {"reason": "closed"})
    assert (paused.status_code, paused.json()["state"], paused.json()["state_reason"]) == (200, "paused", "closed")
    assert error(await ask(harness, "POST", f"{path}/pause")) == (409, "not_possible", "key")
    assert (await ask(harness, "POST", f"{path}/resume")).json()["state"] == "connected"
    assert error(await ask(harness, "POST", f"{path}/resume")) == (409, "not_possible", "key")
    await ask(harness, "POST", f"{path}/pause")
    changed = await ask(harness, "PATCH", path, {"name": "Kasir", "access_token": "new"})
    assert (changed.json()["name"], changed.json()["state"]) == ("Kasir", "connected")
    assert error(await ask(harness, "PATCH", path, {"access_token": ""})) == (400, "invalid", "access_token")
    assert (await ask(harness, "DELETE", path)).status_code == 200
    for method, wanted in (("DELETE", path), ("PATCH", path), ("POST", f"{path}/pause"), ("POST", f"{path}/resume")):
        assert error(await ask(harness, method, wanted)) == (404, "not_found", "key")
    assert harness.ours.official.key not in (await ask(harness, "GET", "/numbers")).text


async def test_an_account_by_the_operator_api(harness: Harness) -> None:
    made = (await ask(harness, "POST", "/accounts", {"email": "new@example.com", "until": "2031-05-17"})).json()
    assert made["account"]["until"] == "2031-05-17"
    assert made["api_key"]
    assert made["password"]
    account_id = made["account"]["id"]
    answer = await harness.post("info", {"api_key": made["api_key"]})
    assert answer.json()["info"]["package"]["active_until"] == "2031-05-17"
    changed = (await ask(harness, "PATCH", f"/accounts/{account_id}", {"until": "2032-01-31", "name": "Toko"})).json()
    assert (changed["until"], changed["name"], changed["language"]) == ("2032-01-31", "Toko", "id")
    for body, field in (
        ({"until": "soon"}, "until"),
        ({"language": "fr"}, "language"),
        ({"timezone": "Mars"}, "timezone"),
        ({"name": ""}, "name"),
    ):
        assert error(await ask(harness, "PATCH", f"/accounts/{account_id}", body)) == (400, "invalid", field)
    assert error(await ask(harness, "POST", "/accounts", {"email": "new@example.com"})) == (400, "invalid", "email")
    assert error(await ask(harness, "POST", "/accounts", {})) == (400, "invalid", "email")
    assert error(await ask(harness, "PATCH", "/accounts/999", {"name": "x"})) == (404, "not_found", "account_id")
    assert error(await ask(harness, "PATCH", "/accounts/x", {"name": "x"})) == (400, "invalid", "id")
    key = (await ask(harness, "POST", f"/accounts/{account_id}/keys", {"label": "shop"})).json()["api_key"]
    assert len((await ask(harness, "GET", f"/accounts/{account_id}/keys")).json()["keys"]) == 2
    assert (await ask(harness, "DELETE", f"/accounts/{account_id}/keys/{key[-4:]}")).json() == {"revoked": 1}
    assert error(await ask(harness, "DELETE", f"/accounts/{account_id}/keys/{key[-4:]}"))[:2] == (404, "not_found")
    device = (await ask(harness, "POST", f"/accounts/{account_id}/devices", {"name": "Kasir"})).json()["key"]
    official = (await ask(harness, "POST", f"/accounts/{account_id}/officials", OFFICIAL)).json()["key"]
    found = await harness.gateway.services.numbers.list(account_id)
    assert [(one.key, one.phone) for one in found] == [(device, ""), (official, "6281100000009")]


async def run(command: Callable[..., object], *arguments: Any, **options: Any) -> None:
    await asyncio.to_thread(command, *arguments, **options)


async def test_the_same_by_commands(harness: Harness, capsys: pytest.CaptureFixture[str]) -> None:
    services, email, key = harness.gateway.services, harness.ours.account.email, harness.ours.official.key
    await run(number.rename, key, "Toko")
    await run(number.pause, key, reason="closed")
    paused = await services.numbers.get_of_any(key)
    assert (paused.name, paused.paused, english(paused.pause_reason)) == ("Toko", True, "closed")
    with pytest.raises(CommandError, match="paused already"):
        await run(number.pause, key)
    await run(number.resume, key)
    assert not (await services.numbers.get_of_any(key)).paused
    with pytest.raises(CommandError, match="no number with this key"):
        await run(number.rename, "WB-nobody", "x")
    await run(number.remove, key)
    assert [one.key for one in await services.numbers.list(harness.ours.account.id)] == [harness.ours.device.key]
    await run(account.set_, email, name="Toko Dua", until="2031-05-17", language="id")
    changed = await services.accounts.get(harness.ours.account.id)
    assert (changed.name, changed.language) == ("Toko Dua", "id")
    capsys.readouterr()
    await run(account.list_)
    assert "2031-05-17" in capsys.readouterr().out
    with pytest.raises(CommandError, match="--timezone: expected a name"):
        await run(account.set_, email, timezone="Mars")
    with pytest.raises(CommandError, match="no account for nobody@"):
        await run(account.set_, "nobody@example.com", name="x")
    with pytest.raises(CommandError, match="no entry"):
        await run(quarantine.discard, "7")


async def test_what_was_done_is_answered_also_when_the_language_cannot_be_read(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> str:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(Accounts, "language", away)
    renamed = await ask(harness, "PATCH", f"/numbers/{harness.ours.official.key}", {"name": "Kasir 2"})
    assert (renamed.status_code, renamed.json()["name"]) == (200, "Kasir 2")


async def test_a_removal_goes_by_the_running_gateway(harness: Harness) -> None:
    """A gateway that does not answer is told of; its data folder is not changed behind its back."""
    write_ready_file(harness.gateway.settings.data_dir, ReadyFile(1, "http://127.0.0.1:9"))
    with pytest.raises(CommandError, match="does not answer"):
        await run(number.remove, harness.ours.official.key)
    assert (
        await harness.gateway.services.numbers.get_of_any(harness.ours.official.key)
    ).key == harness.ours.official.key


async def test_what_the_operator_api_does_not_have_is_answered_in_its_own_form(harness: Harness) -> None:
    assert error(await ask(harness, "POST", "/accounts/1/numbers")) == (404, "not_found", "")
    assert error(await ask(harness, "GET", "/no/such/thing")) == (404, "not_found", "")
    refused = await ask(harness, "DELETE", "/accounts")
    assert error(refused) == (405, "method_not_allowed", "")
    assert "GET" in refused.headers["allow"]
    page = await harness.client.get("/nothing/here")
    assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (404, "text/html")


REFUSALS: list[tuple[str, str, Any, str, str]] = [
    ("PATCH", "/accounts/999", {"name": "x"}, "there is no account", "tidak ada akun"),
    ("PATCH", "/accounts/x", {"name": "x"}, "expected the number of an account", "seharusnya nomor sebuah akun"),
    ("PATCH", "/accounts/1", {"language": "fr"}, "expected one of id, en", "seharusnya salah satu dari id, en"),
    (
        "PATCH",
        "/accounts/1",
        {"language": 7},
        "expected text, got a whole number",
        "seharusnya teks, diterima bilangan",
    ),
    ("PATCH", "/accounts/1", {"colour": 7}, "`colour` is not known here", "`colour` tidak dikenal di sini"),
    ("POST", "/accounts", {}, "`email` is required", "`email` wajib diisi"),
    ("GET", "/numbers?state=x", None, "`state` is not known here", "`state` tidak dikenal di sini"),
    ("GET", "/quarantine?befor=7", None, "or use before, limit", "atau gunakan before, limit"),
    ("GET", "/quarantine?before=1&before=2", None, "`before` is given twice", "`before` diberikan dua kali"),
    ("POST", "/accounts/1/officials", OFFICIAL | {"phone": "x"}, "expected a phone number", "seharusnya nomor telepon"),
    ("PATCH", "/numbers/WB-nobody", {"name": "x"}, "no number with this key", "tidak ada nomor dengan kunci ini"),
    ("GET", "/quarantine?limit=0", None, "expected 1 to 1000", "seharusnya 1 sampai 1000"),
    ("POST", "/quarantine/7/replay", None, "there is no entry", "tidak ada entri"),
    ("POST", "/messages/msg_1/cancel", None, "is no message id", "bukan ID pesan"),
    ("GET", "/no/such/thing", None, "nothing at this address", "tidak ada apa-apa"),
]


@pytest.mark.parametrize(("method", "path", "body", "english", "indonesian"), REFUSALS)
async def test_the_operator_api_refuses_in_the_language_that_is_asked_for(
    harness: Harness, method: str, path: str, body: Any, english: str, indonesian: str
) -> None:
    for language, words in (("", english), ("en", english), ("id, en;q=0.5", indonesian)):
        answer = await ask(harness, method, path, body, language)
        assert words in answer.json()["error"]["message"], (language, answer.text)


async def test_a_wrong_token_too(harness: Harness) -> None:
    for language, words in (("en", "expected the header"), ("id", "seharusnya ada header")):
        answer = await harness.client.get("/api/v1/numbers", headers={"Accept-Language": language})
        assert (answer.status_code, words in answer.json()["error"]["message"]) == (401, True)


async def test_a_command_refuses_in_the_language_of_the_terminal(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LC_ALL", "id_ID.UTF-8")
    with pytest.raises(CommandError, match="--timezone: seharusnya nama"):
        await run(account.set_, harness.ours.account.email, timezone="Mars")
    with pytest.raises(CommandError, match="tidak ada akun untuk nobody@"):
        await run(account.set_, "nobody@example.com", name="x")
    with pytest.raises(CommandError, match="bukan ID pesan"):
        await run(message.show, "7")
    file = tmp_path / "people.csv"
    file.write_text("nama,nomor\nSiti,081234567890\nTanpa,\n")
    await run(contacts.import_, harness.ours.account.email, file)
    assert "line 3: tidak ada nomor telepon" in capsys.readouterr().out
    file.write_text("")
    with pytest.raises(CommandError, match="berkas kosong"):
        await run(contacts.import_, harness.ours.account.email, file)


@pytest.mark.parametrize("state", ["sent", "queued"])
async def test_a_decision_that_cannot_be_taken_names_the_states(harness: Harness, state: str) -> None:
    if state == "queued":
        harness.devices.outcome = lambda _: TryLater("busy", as_written("busy"), after=300.0)
    sent = await harness.send("send_personal_message", phone_no="6281234567890", message="x", method_send="sync")
    path = f"/messages/{sent.headers['x-message-id']}/replay"
    for language, words in (
        ("en", f"is {state}: only a message that is expired or failed or unconfirmed can be replayed"),
        ("id", "hanya pesan yang kedaluwarsa atau gagal atau belum pasti dapat dikirim ulang"),
    ):
        answer = await ask(harness, "POST", path, language=language)
        assert (answer.status_code, words in answer.json()["error"]["message"]) == (409, True), answer.text
