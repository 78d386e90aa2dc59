"""The front door as HTTP: methods, paths, sizes, headers, languages, and what happens when things go wrong inside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.harness.gateway import Harness, open_harness

from kurir.store.database import DatabaseUnavailable
from kurir.web.compat_v1.endpoint import Endpoint
from kurir.web.compat_v1.envelopes import Answer
from kurir.web.server import build

INFO = "/public/v1/info"


async def test_answers_have_the_samples_headers(harness: Harness) -> None:
    answer = await harness.send("info")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store, no-cache, must-revalidate"
    assert answer.headers["pragma"] == "no-cache"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-headers"] == (
        "X-Requested-With, Content-Type, Origin, Cache-Control, Pragma, Authorization, Accept, Accept-Encoding"
    )
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize("path", [INFO, "/public/v1/send_personal_message", "/public/v1/nothing"])
async def test_options_is_answered_for_browsers(harness: Harness, path: str) -> None:
    answer = await harness.client.options(
        path, headers={"Origin": "https://x", "Access-Control-Request-Method": "POST"}
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "POST" in answer.headers["access-control-allow-methods"]


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "BREW"])
async def test_other_methods_are_refused_in_json(harness: Harness, method: str) -> None:
    answer = await harness.client.request(method, INFO)
    assert (answer.status_code, answer.json()["code"]) == (405, "405")
    assert "POST" in answer.headers["allow"]
    assert method in answer.json()["message"]


async def test_head_has_headers_and_no_body(harness: Harness) -> None:
    answer = await harness.client.head(INFO)
    assert (answer.status_code, answer.content) == (405, b"")
    assert (await harness.client.head("/reference")).status_code == 200


async def test_a_trailing_slash_does_not_matter(harness: Harness) -> None:
    answer = await harness.client.post(INFO + "/", json=harness.ours.credentials())
    assert answer.json()["code"] == "200"


@pytest.mark.parametrize("path", ["/public/v1/nothing", "/public/v1/", "/public/v1/info/more", "/public/v2/info"])
async def test_an_unknown_path_is_json_to_programs(harness: Harness, path: str) -> None:
    for answer in (
        await harness.client.post(path, json={}),
        await harness.client.get(path, headers={"Accept": "application/json"}),
    ):
        assert answer.status_code == 404
        assert set(answer.json()) == {"code", "message", "type"}
        assert (answer.json()["code"], answer.json()["type"]) == ("404", "not_found")


@pytest.mark.parametrize("path", ["/public/v1/nothing", "/nothing", "/public", "/%00", "/..%2f..%2fetc/passwd"])
async def test_an_unknown_path_is_a_page_to_people(harness: Harness, path: str) -> None:
    answer = await harness.client.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_a_body_over_the_limit_is_refused_with_and_without_its_length(harness: Harness) -> None:
    limit = harness.gateway.settings.max_body_bytes
    large = b'{"message":"' + b"x" * limit + b'"}'

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 60_000):
            yield large[start : start + 60_000]

    for content in (large, pieces()):
        answer = await harness.client.post(INFO, content=content)
        assert (answer.status_code, answer.json()["code"]) == (400, "400")
        assert str(limit) in answer.json()["message"]
        assert answer.headers["connection"] == "close"


async def test_a_body_in_pieces_is_read_whole(harness: Harness) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for part in (b'{"api_', b'key":"', harness.ours.api_key.encode(), b'"}'):
            yield part

    assert (await harness.client.post(INFO, content=pieces())).json()["code"] == "200"


async def test_a_client_that_goes_away_gets_no_answer_and_stores_nothing(harness: Harness) -> None:
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    written: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        written.append(message)

    scope = {"type": "http", "method": "POST", "path": INFO, "headers": [], "client": ("192.0.2.9", 1)}
    await harness.app(scope, receive, send)
    assert written == []


@pytest.mark.parametrize(
    ("accepted", "words"),
    [("en-GB,en;q=0.9", "is required"), ("id-ID", "wajib diisi"), ("", "wajib diisi"), ("fr", "wajib diisi")],
)
async def test_a_stranger_is_answered_in_the_language_asked_for(harness: Harness, accepted: str, words: str) -> None:
    answer = await harness.post("info", {}, headers={"Accept-Language": accepted})
    assert answer.status_code == 403
    assert words in answer.json()["message"]
    assert "`api_key`" in answer.json()["message"]


async def test_a_known_caller_is_answered_in_the_accounts_language(harness: Harness) -> None:
    answer = await harness.send("send_personal_message", headers_ignored="x", message="x")
    assert "is required" in answer.json()["message"]  # the account speaks English, the request asked for nothing


async def test_always_200_keeps_the_failure_in_the_body(tmp_path: Path) -> None:
    async with open_harness(tmp_path, http_status="always_200") as harness:
        answer = await harness.send("send_personal_message")
        assert (answer.status_code, answer.json()["code"]) == (200, "405")
        answer = await harness.post("info", {"api_key": "wrong"})
        assert (answer.status_code, answer.json()["code"]) == (200, "403")


def broken(error: Exception) -> Endpoint:
    async def handler(*_: object) -> Answer:
        raise error

    return Endpoint("broken", "Test", "Breaks", handler, "api_key", None, ())


async def ask_broken(harness: Harness, error: Exception) -> httpx.Response:
    app = build(harness.gateway, "http://gateway.test", [broken(error)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway.test") as client:
        return await client.post("/public/v1/broken", json=harness.ours.credentials())


async def test_a_database_that_cannot_store_is_503_with_a_time_to_come_back(harness: Harness) -> None:
    answer = await ask_broken(harness, DatabaseUnavailable("disk full"))
    assert (answer.status_code, answer.json()["type"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert "disk" not in answer.json()["message"]
    assert harness.surprises() == 0


async def test_a_mistake_of_ours_is_counted_and_leaks_nothing(harness: Harness) -> None:
    answer = await ask_broken(harness, ZeroDivisionError("secret detail"))
    assert (answer.status_code, answer.json()["code"]) == (503, "503")
    assert "secret detail" not in answer.text
    assert "Traceback" not in answer.text
    assert harness.surprises() == 1


async def test_requests_are_counted_by_endpoint_and_code(harness: Harness) -> None:
    await harness.send("info")
    await harness.post("info", {"api_key": "wrong"})
    await harness.post("whatever", {})
    lines = harness.gateway.metrics.render().decode()
    assert 'kurir_http_requests_total{code="200",method="POST",path="/public/v1/info"} 1.0' in lines
    assert 'kurir_http_requests_total{code="403",method="POST",path="/public/v1/info"} 1.0' in lines
    assert 'kurir_http_requests_total{code="404",method="POST",path="other"} 1.0' in lines


async def test_a_thousand_requests_at_once_are_all_answered(harness: Harness) -> None:
    fields = harness.ours.credentials() | {"message": "x"}

    async def one(index: int) -> httpx.Response:
        return await harness.post("send_personal_message", fields | {"phone_no": f"8123456{index:04d}"})

    harness.devices.connected = False
    answers = await asyncio.gather(*(one(index) for index in range(1000)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.headers["X-Message-Id"] for answer in answers}) == 1000
    assert (await harness.rows())["messages"] == 1000


async def test_a_strangers_broken_form_writes_no_line_of_its_own(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """What the parser would warn of is told to the caller."""
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    for broken in (b"--y\r\n", b"--x\r\nA B: c\r\n\r\n", b"--x\r\n\r\nz\r\n--x-!", b"\x00\xff"):
        answer = await harness.client.post("/public/v1/send_personal_message", content=broken, headers=kind)
        assert answer.status_code in {400, 405}
    assert [record for record in caplog.records if record.name.startswith("python_multipart")] == []
