"""Tenants apart: with every kind of id, "not yours" and "not there" get the same answer, and no statement on an
account's table runs without naming the account."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.gateway_fixture import TEMPLATE, Front, Tenant, open_front

from kurir.contacts import contacts
from kurir.schema import metadata
from kurir.web.compat_v1.endpoint import Endpoint
from kurir.web.compat_v1.endpoint_table import ENDPOINTS

WITH_NUMBER = [endpoint for endpoint in ENDPOINTS if endpoint.number_field is not None]
ACCOUNT_TABLES = {table.name for table in metadata.sorted_tables if "account_id" in table.c} - {"api_keys", "members"}
"""Keys and sign-ins are looked up to find the account, so they cannot name it."""


@pytest.fixture
async def front(tmp_path: Path, database_url: str) -> AsyncIterator[Front]:
    async with open_front(tmp_path, meta_answer_timeout=0.05, database_url=database_url) as front:
        yield front


async def as_(front: Front, tenant: Tenant, path: str, fields: dict[str, Any]) -> Any:
    return await front.post(path, tenant.credentials() | fields)


@pytest.mark.parametrize("endpoint", WITH_NUMBER, ids=lambda endpoint: endpoint.path)
async def test_a_foreign_number_is_as_unknown_as_none(front: Front, endpoint: Endpoint) -> None:
    field = endpoint.number_field
    assert field is not None
    foreign = front.theirs.credentials()[field]
    nowhere = foreign[:-1] + ("a" if foreign[-1] != "a" else "b")
    before = await front.rows()
    answers = [
        await as_(front, front.ours, endpoint.path, endpoint.request_sample | {field: key})
        for key in (foreign, nowhere)
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json() == answers[1].json()
    # the owner's own use of it must not open it for us through what the gateway remembers
    await as_(front, front.theirs, endpoint.path, endpoint.request_sample)
    again = await as_(front, front.ours, endpoint.path, endpoint.request_sample | {field: foreign})
    assert again.json() == answers[0].json()
    assert front.devices.sent == front.cloud.sent == [] or before["messages"] == 0


async def test_a_foreign_contact_list_is_as_unknown_as_none(front: Front) -> None:
    theirs = await front.gateway.database.write(
        lambda c: contacts.create_list(c, front.theirs.account.id, "their customers", at=1.0)
    )
    assert (await as_(front, front.theirs, "get-list-audiences", {"contact_id": theirs.key})).status_code == 200
    foreign = await as_(front, front.ours, "get-list-audiences", {"contact_id": theirs.key})
    nowhere = await as_(front, front.ours, "get-list-audiences", {"contact_id": "x" * len(theirs.key)})
    assert foreign.status_code == 405
    assert foreign.text.replace(theirs.key, "") == nowhere.text.replace("x" * len(theirs.key), "")
    assert (await as_(front, front.ours, "get-list-contacts", {})).json()["data"] == []


async def test_a_foreign_template_is_as_unknown_as_none(front: Front) -> None:
    made = (await as_(front, front.theirs, "create-template", TEMPLATE)).json()
    front.cloud.templates.listed.clear()  # what Meta lists for them is not what it lists for us
    theirs = made["fb_response"]["id"]
    send = {"recipients": "6281234567890", "variables": ["Sari"]}
    foreign = await as_(front, front.ours, "send_message_template", send | {"template": theirs})
    nowhere = await as_(front, front.ours, "send_message_template", send | {"template": "99"})
    assert foreign.status_code == nowhere.status_code == 405
    assert foreign.text.replace(theirs, "") == nowhere.text.replace("99", "")
    assert (await as_(front, front.ours, "get-template-list", {})).json()["data"] == []


async def test_a_foreign_otp_is_as_wrong_as_any(front: Front) -> None:
    sent = (await as_(front, front.theirs, "send_otp", {"phone_no": "81234567890"})).json()
    narrowings: list[dict[str, str]] = [{}, {"req_id": sent["req_id"]}, {"phone_no": "81234567890"}]
    for narrowed in narrowings:
        foreign = await as_(front, front.ours, "validate_otp", {"otp_code": sent["otp_code"]} | narrowed)
        nowhere = await as_(front, front.ours, "validate_otp", {"otp_code": "000000"})
        assert foreign.json() == nowhere.json() == {"code": "400", "message": "OTP Code is Invalid"}
    owner = await as_(front, front.theirs, "validate_otp", {"otp_code": sent["otp_code"]})
    assert owner.json()["message"] == "OTP Code is Valid"


async def test_info_shows_only_ones_own(front: Front) -> None:
    shown = (await front.send("info")).text
    assert front.ours.device.key in shown
    for foreign in (front.theirs.device.key, front.theirs.account.email, front.theirs.official.key):
        assert foreign not in shown


async def test_no_statement_on_an_accounts_table_forgets_the_account(front: Front) -> None:
    statements: set[str] = set()

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.add(statement)

    sa.event.listen(front.gateway.database.engine, "before_cursor_execute", note)
    for endpoint in ENDPOINTS:
        await as_(front, front.ours, endpoint.path, endpoint.request_sample)
    await front.until_sent(1)
    tables = re.compile(rf"\b(?:FROM|UPDATE|INTO|JOIN) ({'|'.join(ACCOUNT_TABLES)})\b")
    touching = {statement for statement in statements if tables.search(statement)}
    assert len(touching) > 10
    assert [statement for statement in touching if "account_id" not in statement] == []
