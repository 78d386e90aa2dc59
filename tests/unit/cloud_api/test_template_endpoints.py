"""The template endpoints: refusals that name the field, dates as the reference writes them, hostile values."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from tests.harness.gateway import Harness, open_harness

from kurir.channels.cloud_api.templates.calls import Created
from kurir.messages.channel_reports import Refused, Sent, TryLater
from kurir.messages.content import TemplateUse
from kurir.messages.template_form import Button, Header, TemplateForm, Variable
from kurir.reasons import as_written
from kurir.templates import templates
from kurir.web.compat_v1.dates import written_date

SITI = "6281234567801"
FORM = TemplateForm(
    "pesanan_siap",
    "id",
    "UTILITY",
    "Halo {{1}}, pesanan {{2}} Anda sudah siap diambil.",
    header=Header("LOCATION", name="Toko", latitude=-6.2, longitude=106.8),
    buttons=[Button("QUICK_REPLY", label="Ya")],
    variables=[Variable("{{1}}", "", "Sari"), Variable("{{2}}", "", "INV")],
)


class Meta:
    """Takes every template; its list was asked for a moment ago."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []

    def listed_within(self, _number: Any, _seconds: float) -> bool:
        return True

    async def create(self, _number: Any, body: dict[str, Any]) -> Created:
        self.created.append(body)
        return Created("900", "PENDING")


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, sync_timeout=0.3) as harness:
        harness.gateway.templates._calls = Meta()  # type: ignore[assignment]
        number = harness.ours.official
        await harness.gateway.database.write(
            lambda c: templates.put(c, number, FORM, meta_id="1", status="APPROVED", now=1_766_300_400.0)
        )
        yield harness


async def test_a_template_goes_out_with_its_values(harness: Harness) -> None:
    answer = await harness.send("send_message_template", recipients=SITI, template=1, variables=["Siti", 7])
    assert answer.status_code == 200
    reply = answer.json()
    assert (reply["message"], reply["template"], set(reply)) == (
        "queued",
        "pesanan_siap",
        {"code", "message", "type", "template", "bc_id"},
    )
    [sent] = await harness.until_sent(1, channel=harness.cloud)
    assert sent.recipient == SITI
    assert sent.content == TemplateUse(
        "pesanan_siap",
        "id",
        [
            {
                "type": "header",
                "parameters": [
                    {"type": "location", "location": {"latitude": -6.2, "longitude": 106.8, "name": "Toko"}}
                ],
            },
            {"type": "body", "parameters": [{"type": "text", "text": "Siti"}, {"type": "text", "text": "7"}]},
        ],
    )


async def test_the_request_may_bring_another_place(harness: Harness) -> None:
    fields = {"latitude": "1.5", "longitude": "2.5", "nameLocation": "Cabang"}
    await harness.send("send_message_template", recipients=SITI, template="1", variables=["a", "b"], **fields)
    [sent] = await harness.until_sent(1, channel=harness.cloud)
    assert isinstance(sent.content, TemplateUse)
    assert sent.content.components[0]["parameters"][0]["location"] == {
        "latitude": 1.5,
        "longitude": 2.5,
        "name": "Cabang",
    }


@pytest.mark.parametrize(
    ("outcome", "code", "part"),
    [
        (Sent("wamid.1"), "200", "sent"),
        (Refused("132015", as_written("Template is paused")), "400", "Template is paused"),
        (TryLater("130429", as_written("slow")), "408", "do not send it again"),
    ],
)
async def test_sync_waits_for_the_outcome(harness: Harness, outcome: Any, code: str, part: str) -> None:
    harness.cloud.outcome = lambda _: outcome
    answer = await harness.send(
        "send_message_template", recipients=SITI, template="1", variables=["a", "b"], method_send="sync"
    )
    assert answer.json()["code"] == code
    assert part in answer.json()["message"]


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"variables": ["a"]}, "2 variables, 1 were given"),
        ({"variables": "a"}, "2 variables, 1 were given"),
        ({"variables": None}, "2 variables, 0 were given"),
        ({"variables": ["a", "b\nc"]}, "`variables`"),
        ({"variables": ["a", {}]}, "`variables`"),
        ({"template": "pesanan_siap"}, "Template not found: pesanan_siap"),
        ({"template": "2"}, "Template not found: 2"),
        ({"template": ""}, "`template`"),
        ({"template": []}, "`template`"),
        ({"template": {}}, "`name`"),
        ({"template": {"name": "lain"}}, "Template not found: lain (id)"),
        ({"template": {"name": "pesanan_siap", "components": [1]}}, "`template.components.0`"),
        ({"template": {"name": "pesanan_siap", "language": {"code": "id"}}}, "2 variables, 0 were given"),
        ({"template": {"name": "pesanan_siap", "language": "en"}}, "Template not found: pesanan_siap (en)"),
        ({"recipients": ""}, "`recipients`"),
        ({"recipients": [SITI, "x"]}, "(x)"),
        ({"recipients": [[]]}, "`recipients`"),
        ({"recipients": ",,"}, "`recipients`"),
        ({"recipients": [SITI] * 5_001}, "`recipients`"),
        ({"latitude": 100, "longitude": 0}, "`latitude`"),
        ({"template": "1" * 256}, "`template` is too long"),
        ({"variables": ["a", "b" * 32_769]}, "`variables` is too long"),
        ({"template": {"name": "n" * 513}}, "`name` is too long"),
        ({"template": {"name": "pesanan_siap", "language": "i" * 33}}, "`language` is too long"),
        ({"template": {"name": "pesanan_siap", "language": {"code": "i" * 33}}}, "`language.code` is too long"),
    ],
)
async def test_a_wrong_request_stores_nothing(harness: Harness, fields: dict[str, Any], part: str) -> None:
    good: dict[str, Any] = {"recipients": SITI, "template": "1", "variables": ["a", "b"]}
    answer = await harness.send("send_message_template", **good | fields)
    assert answer.status_code == 405, answer.text
    assert part in answer.json()["message"]
    rows = await harness.rows()
    assert (rows["messages"], rows["broadcasts"]) == (0, 0)


async def test_only_approved_templates_go_out(harness: Harness) -> None:
    number = harness.ours.official
    await harness.gateway.database.write(
        lambda c: templates.put(c, number, FORM, meta_id="1", status="PAUSED", now=1.0)
    )
    answer = await harness.send("send_message_template", recipients=SITI, template="1", variables=["a", "b"])
    assert answer.status_code == 405
    assert "PAUSED" in answer.json()["message"]


async def test_another_account_s_template_is_not_found(harness: Harness) -> None:
    theirs = harness.theirs.credentials() | {"recipients": SITI, "template": "1", "variables": ["a", "b"]}
    answer = await harness.post("send_message_template", theirs)
    assert answer.json()["message"] == "Template not found: 1"
    listed = await harness.post("get-template-list", harness.theirs.credentials())
    assert (listed.json()["data"], listed.json()["TotalRecords"]) == ([], 0)


async def test_the_list_has_the_reference_s_shape(harness: Harness) -> None:
    await harness.send("create-template", name="draf", language="id", category="UTILITY", body="Halo, ini draf kami.")
    answer = await harness.send("get-template-list", order_by="template_name", order_dir="asc", start="0", length="20")
    draft, approved = answer.json()["data"]
    assert (draft["template_status"], "templateId" in draft, draft["template_header"]) == ("DRAFT", False, None)
    assert approved["templateId"] == "1"
    assert approved["template_created_at"] == "21 Des 2025 14:00 WIB"
    assert approved["template_header"] == {"type": "LOCATION", "name": "Toko", "latitude": -6.2, "longitude": 106.8}
    assert approved["template_license_key"] == harness.ours.official.key
    assert type(answer.json()["TotalRecords"]) is int
    searched = await harness.send("get-template-list", search={"value": "PESANAN"})
    assert [row["template_name"] for row in searched.json()["data"]] == ["pesanan_siap"]


def test_months_are_indonesian() -> None:
    zone = ZoneInfo("Asia/Makassar")
    written = [written_date(datetime(2026, month, 1, 7, 5, tzinfo=zone), "id") for month in range(1, 13)]
    months = " ".join(text.split()[1] for text in written)
    assert months == "Jan Feb Mar Apr Mei Jun Jul Agu Sep Okt Nov Des"
    assert written[0] == "1 Jan 2026 07:05 WITA"


ODD: list[Any] = [
    None, "", " ", "x", "{{1}}", "{", "}", "\x00", "💥", "x" * 5_000, 0, -1, 1e308, 2**70, True, False,
    [], [[]], [None], ["x"], [{}], [1] * 50, {}, {"type": "TEXT"}, {"type": 5, "data": []}, {"a": {"b": {}}},
    {"type": "LOCATION", "latitude": "x"}, {"type": "IMAGE", "url": {}}, [{"type": "URL", "data": "x"}],
    [{"placeholder": [], "example": {}}], {"name": {}, "language": []}, {"name": "a", "components": {}},
]  # fmt: skip
FIELDS = {
    "create-template": (
        ("name", "language", "category", "body", "header", "footer", "buttons", "variables", "submitToFacebook"),
        {"name": "a", "language": "id", "category": "UTILITY", "body": "Halo, ini pesan kami."},
    ),
    "get-template-list": (("search", "order_by", "order_dir", "start", "length"), {}),
    "send_message_template": (
        ("recipients", "template", "variables", "platform", "method_send", "country_code", "latitude", "header_url"),
        {"recipients": SITI, "template": "1", "variables": ["a", "b"]},
    ),
}


@pytest.mark.parametrize("path", FIELDS)
async def test_no_odd_value_is_a_surprise(harness: Harness, path: str) -> None:
    names, good = FIELDS[path]
    for name in names:
        for value in ODD:
            answer = await harness.send(path, **good | {name: value})
            assert answer.status_code < 500, (name, value, answer.text)
            assert answer.json(), (name, value)
    assert harness.surprises() == 0


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"variables": [{"placeholder": "{{1}}", "label": "l" * 513, "example": "x"}]}, "`label`"),
        ({"variables": [{"placeholder": "p" * 513, "example": "x"}]}, "`placeholder`"),
        ({"variables": [{"placeholder": "{{1}}", "example": "x" * 1_025}]}, "`example`"),
        ({"header": {"type": "IMAGE", "url": "https://example.com/" + "x" * 2_000}}, "`url`"),
        ({"header": {"type": "TEXT", "content": "x" * 513}}, "`content`"),
        (
            {"buttons": [{"type": "URL", "data": {"label": "a", "url": "https://e.com/", "example": "x" * 2_001}}]},
            "`example`",
        ),
    ],
)
async def test_no_text_of_a_draft_is_without_a_limit(harness: Harness, fields: dict[str, Any], part: str) -> None:
    draft = {"name": "draft", "language": "id", "category": "UTILITY", "body": "Halo {{1}}, sudah siap diambil ya."}
    answer = await harness.send("create-template", **draft | fields)
    assert answer.status_code == 405, answer.text
    assert f"{part} is too long" in answer.json()["message"]
    assert (await harness.rows())["templates"] == 1


@pytest.mark.parametrize("field", ["file_name", "fileName"])
async def test_a_file_s_name_has_a_limit(harness: Harness, field: str) -> None:
    form = {"phone_no": SITI, "url": "https://example.com/a.pdf"}
    answer = await harness.send("send_personal_file", **form, **{field: "n" * 256})
    assert answer.status_code == 405, answer.text
    assert "`fileName` is too long" in answer.json()["message"]
    assert (await harness.rows())["messages"] == 0
    # one out of the address is cut
    long = {**form, "url": f"https://example.com/{'x' * 600}%00%ff.pdf"}
    answer = await harness.send("send_personal_file", **long)
    assert answer.status_code == 200, answer.text
    stored = await harness.gateway.database.read(
        lambda c: c.execute(sa.text("SELECT content FROM messages")).scalar_one()
    )
    assert json.loads(stored)["file_name"] == "x" * 255
