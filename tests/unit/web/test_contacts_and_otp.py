"""The chapters Contacts and OTP through the HTTP door, as programs and DataTables call them."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection
from tests.harness.gateway import Harness, open_harness

from kurir.contacts import contacts
from kurir.contacts.contacts import Person
from kurir.messages.content import Text


async def test_a_code_travels_from_the_answer_to_the_phone_and_back_once(
    harness: Harness, capfd: pytest.CaptureFixture[str]
) -> None:
    sent = await harness.send("send_otp", phone_no="081234567890", country_code="62", company_name="PT Contoh")
    assert sent.status_code == 200
    code = sent.json()["otp_code"]
    (outgoing,) = await harness.until_sent(1)
    assert outgoing.recipient == "6281234567890"
    assert isinstance(outgoing.content, Text)
    assert f"*{code}*" in outgoing.content.body
    assert outgoing.content.body.endswith("PT Contoh")

    foreign = await harness.post("validate_otp", {"api_key": harness.theirs.api_key, "otp_code": code})
    assert (foreign.status_code, foreign.json()) == (400, {"code": "400", "message": "OTP Code is Invalid"})
    right = await harness.post("validate_otp", {"api_key": harness.ours.api_key, "otp_code": code})
    assert (right.status_code, right.json()) == (200, {"code": "200", "message": "OTP Code is Valid"})
    again = await harness.post("validate_otp", {"api_key": harness.ours.api_key, "otp_code": code})
    assert (again.status_code, again.json()) == (foreign.status_code, foreign.json())
    written = capfd.readouterr()
    assert code not in written.out + written.err
    assert harness.surprises() == 0


async def test_over_the_limits_the_answer_is_400_with_a_time_to_come_back(harness: Harness) -> None:
    answers = [await harness.send("send_otp", phone_no="081234567890") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [400]
    assert answers[-1].json()["type"] == "rate_limited"
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 600


async def test_a_hundred_wrong_codes_keep_nobody_out(harness: Harness) -> None:
    sent = (await harness.send("send_otp", phone_no="081234567890")).json()
    guesses = [await harness.send("validate_otp", otp_code="wrong") for _ in range(101)]
    guesses += [
        await harness.send("validate_otp", otp_code=f"{n:06d}") for n in range(101) if f"{n:06d}" != sent["otp_code"]
    ]
    assert {answer.text for answer in guesses} == {'{"code":"400","message":"OTP Code is Invalid"}'}
    right = await harness.send("validate_otp", otp_code=sent["otp_code"])
    assert right.json() == {"code": "200", "message": "OTP Code is Valid"}


async def test_a_flood_of_checks_does_not_use_up_the_requests_for_sending(tmp_path: Path) -> None:
    async with open_harness(tmp_path, rate_limit="5/minute") as harness:
        checks = [(await harness.send("validate_otp", otp_code="123456")).json() for _ in range(8)]
        assert [check.get("type") for check in checks] == [None] * 5 + ["rate_limited"] * 3
        sends = [(await harness.send("send_otp", phone_no="081234567890")).json()["code"] for _ in range(3)]
        assert sends == ["200"] * 3


async def test_a_data_tables_form_pages_through_a_list(harness: Harness) -> None:
    account = harness.ours.account

    def fill(connection: Connection) -> str:
        contact = contacts.create_list(connection, account.id, "Pelanggan", at=1.0)
        people = [Person(f"62812345678{n:02d}", f"Orang {n:02d}") for n in range(30)]
        contacts.add_audiences(connection, account.id, contact.id, people, at=1.0)
        return contact.key

    key = await harness.gateway.database.write(fill)
    form = {
        "api_key": harness.ours.api_key,
        "contact_id": key,
        "draw": "3",
        "start": "10",
        "length": "5",
        "search[value]": "orang",
        "search[regex]": "false",
        "order[0][column]": "1",
        "order[0][dir]": "desc",
        "columns[0][data]": "name",
        "columns[1][data]": "wa_number",
    }
    answer = await harness.client.post("/public/v1/get-list-audiences", data=form)
    assert answer.status_code == 200
    assert [row["name"] for row in answer.json()["data"]] == [f"Orang {n:02d}" for n in (19, 18, 17, 16, 15)]
    assert (answer.json()["draw"], answer.json()["iTotalRecords"]) == (3, "30")
    form["api_key"] = harness.theirs.api_key
    assert (await harness.client.post("/public/v1/get-list-audiences", data=form)).status_code == 405
    assert harness.surprises() == 0
