"""Tenants apart: with every kind of id, "not yours" and "not there" get the same answer, and no statement on an
account's table runs without naming the account."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.harness.gateway import TEMPLATE, Harness, Tenant, open_harness

from kurir.contacts import contacts
from kurir.schema import metadata
from kurir.web.compat_v1.endpoint import Endpoint
from kurir.web.compat_v1.endpoint_table import ENDPOINTS

WITH_NUMBER = [endpoint for endpoint in ENDPOINTS if endpoint.number_field is not None]
ACCOUNT_TABLES = {table.name for table in metadata.sorted_tables if "account_id" in table.c} - {"api_keys", "members"}
"""Keys and sign-ins are looked up to find the account, so they cannot name it."""


@pytest.fixture
async def harness(tmp_path: Path, database_url: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, meta_answer_timeout=0.05, database_url=database_url) as harness:
        yield harness


async def as_(harness: Harness, tenant: Tenant, path: str, fields: dict[str, Any]) -> Any:
    return await harness.post(path, tenant.credentials() | fields)


@pytest.mark.parametrize("endpoint", WITH_NUMBER, ids=lambda endpoint: endpoint.path)
async def test_a_foreign_number_is_as_unknown_as_none(harness: Harness, endpoint: Endpoint) -> None:
    field = endpoint.number_field
    assert field is not None
    foreign = harness.theirs.credentials()[field]
    nowhere = foreign[:-1] + ("a" if foreign[-1] != "a" else "b")
    before = await harness.rows()
    answers = [
        await as_(harness, harness.ours, endpoint.path, endpoint.request_sample | {field: key})
        for key in (foreign, nowhere)
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json() == answers[1].json()
    # the owner's own use of it must not open it for us through what the gateway remembers
    await as_(harness, harness.theirs, endpoint.path, endpoint.request_sample)
    again = await as_(harness, harness.ours, endpoint.path, endpoint.request_sample | {field: foreign})
    assert again.json() == answers[0].json()
    assert harness.devices.sent == harness.cloud.sent == [] or before["messages"] == 0


async def test_a_foreign_contact_list_is_as_unknown_as_none(harness: Harness) -> None:
    theirs = await harness.gateway.database.write(
        lambda c: contacts.create_list(c, harness.theirs.account.id, "their customers", at=1.0)
    )
    assert (await as_(harness, harness.theirs, "get-list-audiences", {"contact_id": theirs.key})).status_code == 200
    foreign = await as_(harness, harness.ours, "get-list-audiences", {"contact_id": theirs.key})
    nowhere = await as_(harness, harness.ours, "get-list-audiences", {"contact_id": "x" * len(theirs.key)})
    assert foreign.status_code == 405
    assert foreign.text.replace(theirs.key, "") == nowhere.text.replace("x" * len(theirs.key), "")
    assert (await as_(harness, harness.ours, "get-list-contacts", {})).json()["data"] == []


async def test_a_foreign_template_is_as_unknown_as_none(harness: Harness) -> None:
    made = (await as_(harness, harness.theirs, "create-template", TEMPLATE)).json()
    harness.cloud.templates.listed.clear()  # what Meta lists for them is not what it lists for us
    theirs = made["fb_response"]["id"]
    send = {"recipients": "6281234567890", "variables": ["Sari"]}
    foreign = await as_(harness, harness.ours, "send_message_template", send | {"template": theirs})
    nowhere = await as_(harness, harness.ours, "send_message_template", send | {"template": "99"})
    assert foreign.status_code == nowhere.status_code == 405
    assert foreign.text.replace(theirs, "") == nowhere.text.replace("99", "")
    assert (await as_(harness, harness.ours, "get-template-list", {})).json()["data"] == []


async def test_a_foreign_otp_is_as_wrong_as_any(harness: Harness) -> None:
    sent = (await as_(harness, harness.theirs, "send_otp", {"phone_no": "81234567890"})).json()
    narrowings: list[dict[str, str]] = [{}, {"req_id": sent["req_id"]}, {"phone_no": "81234567890"}]
    for narrowed in narrowings:
        foreign = await as_(harness, harness.ours, "validate_otp", {"otp_code": sent["otp_code"]} | narrowed)
        nowhere = await as_(harness, harness.ours, "validate_otp", {"otp_code": "000000"})
        assert foreign.json() == nowhere.json() == {"code": "400", "message": "OTP Code is Invalid"}
    owner = await as_(harness, harness.theirs, "validate_otp", {"otp_code": sent["otp_code"]})
    assert owner.json()["message"] == "OTP Code is Valid"


async def test_info_shows_only_ones_own(harness: Harness) -> None:
    shown = (await harness.send("info")).text
    assert harness.ours.device.key in shown
    for foreign in (harness.theirs.device.key, harness.theirs.account.email, harness.theirs.official.key):
        assert foreign not in shown


async def test_no_statement_on_an_accounts_table_forgets_the_account(harness: Harness) -> None:
    statements: set[str] = set()

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.add(statement)

    sa.event.listen(harness.gateway.database.engine, "before_cursor_execute", note)
    for endpoint in ENDPOINTS:
        await as_(harness, harness.ours, endpoint.path, endpoint.request_sample)
    await harness.until_sent(1)
    tables = re.compile(rf"\b(?:FROM|UPDATE|INTO|JOIN) ({'|'.join(ACCOUNT_TABLES)})\b")
    touching = {statement for statement in statements if tables.search(statement)}
    assert len(touching) > 10
    assert [statement for statement in touching if "account_id" not in statement] == []
