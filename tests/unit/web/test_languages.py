"""The language of an answer: whole, and the one that was asked for while nobody is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.harness.gateway import Harness, open_harness

from kurir.accounts.tables import accounts
from kurir.cli.language import language
from kurir.messages.channel_reports import NotConnected, Refused, TryLater
from kurir.reasons.messages import NOT_A_GROUP_MEMBER, NOT_ON_WHATSAPP
from kurir.reasons.numbers import REMOVED_BY_PHONE
from kurir.store.database import BadValue, DatabaseUnavailable
from kurir.web.http.languages import asked_for

PHONE = "6281234567890"


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("en", "en"),
        ("EN-us,en;q=0.5", "en"),
        ("id-ID, id;q=0.9, en;q=0.8", "id"),
        ("fr, en;q=0.2, id;q=0.9", "id"),
        ("de;q=1, en;q=0.1", "en"),
        ("in-ID", "id"),
        ("en;q=0, id;q=0.1", "id"),
        ("", None),
        ("fr", None),
        ("*", None),
        ("english", None),
        ("en;q=x", None),
        (";;,,", None),
    ],
)
def test_accept_language(header: str, wanted: str | None) -> None:
    assert asked_for(header) == wanted


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, "en"),
        ({"LANG": "id_ID.UTF-8"}, "id"),
        ({"LANG": "id_ID.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "id_ID"}, "id"),
    ],
)
def test_the_language_of_the_terminal(values: dict[str, str], wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert language() == wanted


@pytest.mark.parametrize(
    ("header", "words"),
    [("en", "is not valid"), ("fr, en;q=0.5", "is not valid"), ("id, en;q=0.5", "tidak valid"), ("", "tidak valid")],
)
async def test_a_caller_whom_nobody_knows(harness: Harness, header: str, words: str) -> None:
    answer = await harness.client.post(
        "/public/v1/send_personal_message", json={"api_key": "wrong"}, headers={"Accept-Language": header}
    )
    assert (answer.status_code, words in answer.json()["message"]) == (403, True)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Refused("not_on_whatsapp", NOT_ON_WHATSAPP()), "gagal dikirim: nomor telepon penerima tidak ada di WhatsApp"),
        (Refused("x", NOT_A_GROUP_MEMBER()), "gagal dikirim: nomor pengirim harus menjadi anggota grup"),
        (TryLater("x", NOT_ON_WHATSAPP(), after=60.0), "(status: dalam antrean)"),
        (NotConnected(REMOVED_BY_PHONE()), "belum terkirim dalam"),
    ],
)
async def test_an_indonesian_answer_is_indonesian_to_its_end(harness: Harness, outcome: object, words: str) -> None:
    change = sa.update(accounts).values(language="id")
    await harness.gateway.database.write(lambda c: c.execute(change))
    harness.devices.outcome = lambda _: outcome  # type: ignore[assignment,return-value]
    answer = await harness.send("send_personal_message", phone_no=PHONE, message="x", method_send="sync")
    assert words in answer.json()["message"]
    assert not {"queued", "sending", "the", "is", "not"} & set(answer.json()["message"].replace(":", " ").split())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"a": 1,}', "ada koma sebelum penutup, pada byte"),
        (b'{"a": ', "terpotong"),
        (b"{a: 1}", "pada byte"),
    ],
)
async def test_a_broken_body_is_explained_in_indonesian(harness: Harness, body: bytes, words: str) -> None:
    answer = await harness.client.post("/public/v1/send_personal_message", content=body)
    assert (answer.status_code, words in answer.json()["message"]) == (400, True), answer.text


# -- nobody is known ---------------------------------------------------------------------------------------------------

JSON = {"Accept": "application/json"}
BOTH = [("", False), ("en", True), ("id", False), ("fr, en;q=0.1", True)]
"""`Accept-Language`, and whether the answer is English."""


@pytest.mark.parametrize(("asked", "english"), BOTH)
async def test_what_does_not_exist(harness: Harness, asked: str, english: bool) -> None:
    headers = JSON | {"Accept-Language": asked}
    answer = await harness.client.get("/nothing", headers=headers)
    words = "there is nothing at this address" if english else "tidak ada apa-apa di alamat ini"
    assert (answer.status_code, answer.json()) == (404, {"code": "404", "message": words, "type": "not_found"})
    answer = await harness.client.post("/reference", headers=headers)
    assert (answer.status_code, answer.json()["message"]) == (
        405,
        "not by this method" if english else "bukan dengan metode ini",
    )


@pytest.mark.parametrize(("asked", "english"), BOTH)
async def test_the_host_of_a_stranger(tmp_path: Path, asked: str, english: bool) -> None:
    async with open_harness(tmp_path, status_page="open") as harness:
        headers = {"Host": "evil.example", "Accept-Language": asked}
        answer = await harness.client.post("/public/v1/info", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (421, "421")
        assert answer.json()["message"].startswith("while" if english else "selama")
        operator = await harness.client.get("/api/v1/numbers", headers={"Host": "evil.example"})
        assert operator.json()["message"].startswith("while")


@pytest.mark.parametrize(("asked", "english"), BOTH)
@pytest.mark.parametrize(
    ("failure", "status", "words"),
    [
        (DatabaseUnavailable("at 10.1.2.3"), 503, ("cannot store anything now", "tidak dapat menyimpan data")),
        (BadValue("too long"), 400, ("too long or too large", "terlalu panjang atau terlalu besar")),
        (ZeroDivisionError("x"), 503, ("made a mistake (id: ", "Terjadi kesalahan pada layanan (kode: ")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_what_fails_behind_a_page(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    status: int,
    words: tuple[str, str],
    asked: str,
    english: bool,
) -> None:
    async def failing() -> None:
        raise failure

    async with open_harness(tmp_path, status_page="open") as harness:
        monkeypatch.setattr(harness.gateway.services.accounts, "list", failing)
        answer = await harness.client.get("/", headers={"Accept-Language": asked})
    assert answer.status_code == status
    assert words[0 if english else 1] in answer.json()["message"]


@pytest.mark.parametrize(("asked", "words"), [("", "is missing"), ("en", "is missing"), ("id", "tidak ada")])
async def test_a_callback_that_is_not_signed(harness: Harness, asked: str, words: str) -> None:
    answer = await harness.client.post("/meta/callbacks", headers={"Accept-Language": asked})
    assert (answer.status_code, answer.json()["message"]) == (401, f"X-Hub-Signature-256 {words}")
