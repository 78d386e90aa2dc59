"""The language of an answer: whole, and the one that was asked for while nobody is known."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.harness.gateway import Harness

from kurir.accounts.tables import accounts
from kurir.cli.language import language
from kurir.messages.channel_reports import NotConnected, Refused, TryLater
from kurir.reasons.messages import NOT_A_GROUP_MEMBER, NOT_ON_WHATSAPP
from kurir.reasons.numbers import REMOVED_BY_PHONE
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
