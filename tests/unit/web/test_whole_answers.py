"""Answers that are written at once are, byte for byte, what uvicorn writes of the same answer in parts."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from tests.harness.http import Raw, served

from kurir.web.compat_v1.http_replies import Reply, json_reply, send_reply
from kurir.web.http import whole_answers

REPLIES: dict[str, Reply] = {
    "/plain": json_reply({"code": "200", "message": "Halo ☀️"}),
    "/refused": json_reply({"code": "405", "message": "no"}, {"Retry-After": "2"}),
    "/limited": json_reply(
        {"code": "400"},
        {"RateLimit-Limit": "50", "RateLimit-Remaining": "0", "RateLimit-Reset": "7", "Retry-After": "7"},
    ),
    "/sent": json_reply({"code": "200"}, {"X-Message-Id": "msg_1, msg_2", "Idempotency-Replayed": "true"}),
    "/last": json_reply({"code": "400"}, {"Connection": "close"}),
    "/other": json_reply({"code": "200"}, {"X-Other": "1"}),
    "/split": json_reply({"code": "200"}, {"X-Message-Id": "1\r\nSet-Cookie: a=b"}),
    "/empty": Reply(200, 200, b"", {}),
    "/away": json_reply({"code": "503"}, {"Retry-After": "2"}, status=503),
}
REQUESTS = [
    *(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" for path in REPLIES),
    "HEAD /plain HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "POST /sent HTTP/1.0\r\nContent-Length: 0\r\n\r\n",
    "POST /sent HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    # several on one connection, ahead of their answers
    "POST /sent HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab" * 3
    + "GET /limited HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
]


async def in_full(scope: Any, receive: Any, send: Any) -> None:
    """Answers as `REPLIES` says, whole where the server takes that."""
    if scope["type"] == "http":
        await send_reply(scope, send, REPLIES[scope["path"]])


async def in_parts(scope: Any, receive: Any, send: Any) -> None:
    """The same through a server that knows no whole answers."""
    await in_full({name: value for name, value in scope.items() if name != "extensions"}, receive, send)


async def written(port: int, request: str) -> bytes:
    raw = await Raw.open(port)
    await raw.say(request.encode())
    async with asyncio.timeout(10):
        answer = await raw.reader.read()
    raw.close()
    return re.sub(rb"\r\ndate: [^\r]*", b"\r\ndate: now", answer)


@pytest.mark.parametrize("request_", REQUESTS, ids=[request[:24] for request in REQUESTS])
async def test_the_bytes_are_the_same(request_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written_whole: list[Any] = []
    send = whole_answers.Cycle.send

    async def counted(cycle: Any, message: Any) -> None:
        if message["type"] == whole_answers.WHOLE:
            written_whole.append(message)
        await send(cycle, message)

    monkeypatch.setattr(whole_answers.Cycle, "send", counted)
    async with served(in_parts) as parts:
        expected = await written(parts, request_)
    assert not written_whole
    async with served(in_full) as whole:
        assert await written(whole, request_) == expected
    unusual = ("/last", "/other", "/split")
    assert bool(written_whole) == (request_.split(" ")[1] not in unusual)
    assert b"Set-Cookie" not in expected


async def test_a_connection_goes_on_after_a_whole_answer() -> None:
    async with served(in_full) as port:
        raw = await Raw.open(port)
        for _ in range(3):
            await raw.say(b"POST /sent HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            assert await raw.status() == 200
