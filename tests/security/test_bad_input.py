"""Bad input at every endpoint over the whole gateway: the right code, the field named, nothing stored, no mistake.

Each endpoint's documented request is taken and spoilt one field at a time, then the body as a whole.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.gateway import Harness, open_harness

from kurir.web.compat_v1.endpoint import Endpoint
from kurir.web.compat_v1.endpoint_table import ENDPOINTS

CODES = {200, 400, 403, 404, 405, 408}
every_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.path)

NASTY: tuple[Any, ...] = (
    None,
    "",
    " ",
    True,
    0,
    -1,
    10**30,
    -(2**63),
    1.5,
    1e308,
    [],
    {},
    [[[[]]]],
    [None],
    {"a": {"b": []}},
    {"value": ["x"]},
    {"name": {}, "language": [], "components": "x"},
    [{"type": 1, "data": "x", "column": "x", "dir": 1, "placeholder": []}],
    "\x00",
    "a\x00b\x1b[0m",
    "x" * 5_000,
    "9" * 300,
    "\ufeff\u202e\u200b",
    "٠٨١٢٣٤",  # digits, but not ours
    "😀" * 100,
    "' OR 1=1; DROP TABLE messages --",
    "%s %n {0} {field} {{",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "http://169.254.169.254/latest/meta-data",
    "file:///etc/passwd",
    "1e5",
    "NaN",
    "0x10",
    "1_000",
)
USED_WITH: dict[str, dict[str, Any]] = {
    "send_as_caption": {"image_url": "https://example.com/a.png"},
    "country_code": {"phone_no": "81234567890"},
    "fileName": {"file_url": "https://example.com/a.pdf"},
    "longitude": {"latitude": 1},
    "nameLocation": {"latitude": 1, "longitude": 1},
    "addressLocation": {"latitude": 1, "longitude": 1},
}
"""Fields that are read only when others are there."""
UNUSED = {
    ("send_message_template", "header_url"),  # only for a template with a media header
    ("get-list-audiences", "order_by"),  # `order` goes before it
    ("get-list-audiences", "order_dir"),
    ("get-template-list", "search"),  # may be an object, as DataTables sends it
}
SPOILT: tuple[tuple[str, bytes], ...] = (
    ("nothing", b""),
    ("blank", b" \r\n"),
    ("a list", b"[]"),
    ("a number", b"1"),
    ("null", b"null"),
    ("cut off", b'{"api_key": "x"'),
    ("two objects", b"{}{}"),
    ("single quotes", b"{'api_key': 'x'}"),
    ("latin-1", '{"api_key": "é"}'.encode("latin-1")),
    ("utf-16", '{"api_key": "x"}'.encode("utf-16")),
    ("deep", b'{"api_key":' + b"[" * 50_000),
    ("deep and whole", b'{"a":' * 100 + b"1" + b"}" * 100),
    ("not a number", b'{"api_key": NaN}'),
    ("too large a number", b'{"api_key": 1e999}'),
    ("half a surrogate pair", b'{"api_key": "\\ud83d"}'),
    ("an image", b"\x89PNG\r\n\x1a\n" + bytes(range(256))),
    ("html", b"<html><body>api_key=1</body></html>"),
    ("too large", b'{"api_key": "' + b"x" * 300_000 + b'"}'),
)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, meta_answer_timeout=0.01, sync_timeout=0.05) as harness:
        harness.devices.connected = harness.cloud.connected = False  # whatever is stored stays where it can be counted
        yield harness


async def sound(harness: Harness, endpoint: Endpoint) -> dict[str, Any]:
    """A request that the endpoint can do something with, so that the spoilt field is what is wrong with it."""
    furnished = await harness.furnish()
    return harness.ours.credentials() | endpoint.request_sample | furnished.get(endpoint.path, {})


def shaped(body: Any) -> bool:
    """Whether it is the wire's error, or create-template's own."""
    if body.get("success") is False:
        return isinstance(body["message"], str)
    return isinstance(body.get("code"), str) and isinstance(body.get("message"), (str, dict))


@every_endpoint
async def test_every_field_spoilt_in_every_way_is_answered_with_a_documented_code(
    harness: Harness, endpoint: Endpoint
) -> None:
    good = await sound(harness, endpoint)
    before = await harness.rows()
    for field in endpoint.fields:
        for nasty in NASTY:
            answer = await harness.post(endpoint.path, good | {field.name: nasty})
            context = f"{field.name}={nasty!r}: {answer.status_code} {answer.text[:300]}"
            assert answer.status_code in CODES, context
            assert "Traceback" not in answer.text, context
            if answer.status_code != 200:
                assert shaped(answer.json()), context
            after = await harness.rows()
            if answer.status_code != 200 and endpoint.path != "validate_otp":  # which counts wrong tries
                assert after == before, context
            before = after
    assert harness.surprises() == 0


@every_endpoint
async def test_a_field_of_the_wrong_kind_is_named(harness: Harness, endpoint: Endpoint) -> None:
    good = await sound(harness, endpoint)
    before = await harness.rows()
    for field in endpoint.fields:
        if field.kind in {"string", "flag", "integer", "number"} and (endpoint.path, field.name) not in UNUSED:
            for nasty in ([], {}, ["x"], {"x": 1}):
                answer = await harness.post(endpoint.path, good | USED_WITH.get(field.name, {}) | {field.name: nasty})
                assert answer.status_code in {400, 405}, f"{field.name}={nasty!r}: {answer.text}"
                assert field.name in answer.text, f"{field.name}={nasty!r}: {answer.text}"
    assert await harness.rows() == before


@every_endpoint
async def test_a_missing_required_field_is_named(harness: Harness, endpoint: Endpoint) -> None:
    good = await sound(harness, endpoint)
    before = await harness.rows()
    for field in endpoint.fields:
        if field.required:
            for absent in ({}, {field.name: None}, {field.name: ""}):
                body = {name: value for name, value in good.items() if name != field.name} | absent
                answer = await harness.post(endpoint.path, body)
                assert answer.status_code == 405, f"{field.name}: {answer.text}"
                assert field.name in answer.text
    assert await harness.rows() == before


@every_endpoint
async def test_a_body_that_cannot_be_read_is_400(harness: Harness, endpoint: Endpoint) -> None:
    before = await harness.rows()
    for name, raw in SPOILT:
        for headers in ({"Content-Type": "application/json"}, {}):
            answer = await harness.client.post(f"/public/v1/{endpoint.path}", content=raw, headers=headers)
            context = f"{name}: {answer.status_code} {answer.text}"
            if name == "html" and not headers:  # with its `=` it may be a form, then the key is missing
                assert answer.status_code == 403, context
                continue
            assert (answer.status_code, answer.json()["code"]) == (400, "400"), context
            assert answer.json()["type"] == "invalid_request", context
    assert await harness.rows() == before
    assert harness.surprises() == 0


@every_endpoint
async def test_credentials_and_number_come_first(harness: Harness, endpoint: Endpoint) -> None:
    before = await harness.rows()
    answer = await harness.post(endpoint.path, endpoint.request_sample)
    assert answer.status_code == 403
    assert f"`{endpoint.credential}`" in answer.json()["message"]
    for key in ("wrong", "\u202e", "x" * 100_000, 1, True):
        answer = await harness.post(endpoint.path, endpoint.request_sample | {endpoint.credential: key})
        assert (answer.status_code, answer.json()["type"]) == (403, "invalid_api_key")
    if endpoint.number_field is not None:
        known = {endpoint.credential: harness.ours.api_key} | endpoint.request_sample
        answer = await harness.post(endpoint.path, known)
        assert answer.status_code == 405
        assert f"`{endpoint.number_field}`" in answer.json()["message"]
        for number in ("BO-", "WB-", "BO-0000000000000000", "WB-" + "0" * 5000, 7, "' OR ''='"):
            answer = await harness.post(endpoint.path, known | {endpoint.number_field: number})
            assert (answer.status_code, answer.json()["type"]) == (404, "invalid_number_id")
        for number in ([], {"a": 1}):
            answer = await harness.post(endpoint.path, known | {endpoint.number_field: number})
            assert answer.status_code == 405
    assert await harness.rows() == before
    assert harness.surprises() == 0


@every_endpoint
async def test_unknown_fields_are_ignored(harness: Harness, endpoint: Endpoint) -> None:
    good = await sound(harness, endpoint)
    plain = await harness.post(endpoint.path, good)
    more = {"account_id": 999, "state": "sent", "price": 0, "id": 1, "origin": "otp", "priority": 0, "__class__": "x"}
    with_more = await harness.post(endpoint.path, good | more | ({"name": "second"} if "name" in good else {}))
    assert with_more.status_code == plain.status_code
    assert with_more.json().keys() == plain.json().keys()


async def test_a_sender_cannot_set_what_is_ours(harness: Harness) -> None:
    more = {"account_id": harness.theirs.account.id, "state": "sent", "priority": 0, "origin": "otp", "attempts": 9}
    answer = await harness.send("send_personal_message", phone_no="81234567890", message="x", **more)
    assert answer.status_code == 200
    (row,) = await harness.gateway.database.read(
        lambda c: c.exec_driver_sql("SELECT account_id, state, priority, origin, attempts FROM messages").all()
    )
    assert tuple(row) == (harness.ours.account.id, "queued", 5, "api", 0)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "\x7f"},
        {"Content-Type": "multipart/form-data; boundary=" + "x" * 5000},
        {"Content-Type": "application/json; charset=utf-7"},
        {"Content-Encoding": "gzip"},
        {"Content-Length": "-1"},
        {"Content-Length": "9" * 30},
        {"Accept-Language": "\x7f" * 1000},
        {"Authorization": "Bearer x"},
        {"X-Forwarded-For": "' OR 1=1"},
        {"Host": "evil.example\\@x"},
    ],
)
async def test_odd_headers_do_no_harm(harness: Harness, headers: dict[str, str]) -> None:
    raw = json.dumps(harness.ours.credentials()).encode()
    answer = await harness.client.post("/public/v1/info", content=raw, headers=headers)
    assert answer.status_code in {200, 400}
    assert harness.surprises() == 0
