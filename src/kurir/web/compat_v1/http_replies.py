"""HTTP answers: status, headers, bytes. The headers are those of the reference collection's samples."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec
from starlette.types import Scope, Send

from kurir.reasons import Code, sentence
from kurir.web.compat_v1.envelopes import ErrorCode, ErrorType
from kurir.web.http.languages import before_account
from kurir.web.http.whole_answers import WHOLE, takes_whole

_encode = msgspec.json.Encoder().encode

_CORS = (
    (b"access-control-allow-origin", b"*"),
    (
        b"access-control-allow-headers",
        b"X-Requested-With, Content-Type, Origin, Cache-Control, Pragma, Authorization, Accept, Accept-Encoding",
    ),
    (b"access-control-allow-methods", b"POST, OPTIONS"),
    (
        b"access-control-expose-headers",
        b"X-Message-Id, Idempotency-Replayed, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After",
    ),
)
_JSON = (
    (b"content-type", b"application/json; charset=utf-8"),
    (b"cache-control", b"no-store, no-cache, must-revalidate"),
    (b"pragma", b"no-cache"),
    (b"x-content-type-options", b"nosniff"),
    *_CORS,
)

_JSON_LINES = b"".join(b"%b: %b\r\n" % field for field in _JSON)
_BEGINNINGS = {
    name: name.lower() + ": "
    for name in (
        "RateLimit-Limit",
        "RateLimit-Remaining",
        "RateLimit-Reset",
        "X-Message-Id",
        "Retry-After",
        "Idempotency-Replayed",
        "Allow",
    )
}


class Reply(msgspec.Struct, frozen=True):
    """An answer: the HTTP status, the body's `code` for the metrics, the JSON body, and our extra headers."""

    status: int
    code: int
    body: bytes
    headers: Mapping[str, str]


def json_reply(body: Mapping[str, Any], headers: Mapping[str, str] | None = None, status: int | None = None) -> Reply:
    """A reply whose HTTP status is the body's `code` unless `status` is given (200 when the body has none)."""
    code = status or int(body.get("code", 200))
    return Reply(code, code, _encode(body), headers or {})


def error_body(code: ErrorCode, type: ErrorType, reason: Code, language: str, /, **values: object) -> dict[str, str]:
    """The wire's error body."""
    return {"code": code, "message": sentence(reason(**values).shortened(200), language), "type": type}


async def send_reply(scope: Scope, send: Send, reply: Reply) -> None:
    """Writes the reply; to HEAD without its body."""
    if takes_whole(scope) and (lines := _lines(reply)) is not None:
        await send({"type": WHOLE, "status": reply.status, "fields": lines, "body": reply.body})
        return
    headers = [*_JSON, (b"content-length", b"%d" % len(reply.body))]
    for name, value in reply.headers.items():
        headers.append((_lower(name), value.encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else reply.body})


def _lines(reply: Reply) -> bytes | None:
    """The reply's header fields as they are written; None when one of them is for the server to look at."""
    lines = ""
    for name, value in reply.headers.items():
        begins = _BEGINNINGS.get(name)
        if begins is None or not (value.isascii() and value.isprintable()):
            return None
        lines += begins + value + "\r\n"
    return b"%bcontent-length: %d\r\n%b" % (_JSON_LINES, len(reply.body), lines.encode())


async def send_preflight(send: Send) -> None:
    """Answers OPTIONS with the CORS headers."""
    headers = [*_CORS, (b"access-control-max-age", b"86400"), (b"allow", b"POST, OPTIONS"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


@lru_cache(maxsize=100)  # the names are ours
def _lower(name: str) -> bytes:
    return name.lower().encode()


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The request's headers by name in lower case; of several with one name the first."""
    return dict(reversed(scope["headers"]))


def header(scope: Scope, name: bytes) -> str:
    """A request header's value, "" when absent; `name` in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return ""


def language_of(scope: Scope) -> str:
    """The language for a caller who is not known yet."""
    return before_account(scope["path"], header(scope, b"accept-language"))


def wants_json(scope: Scope) -> bool:
    """Whether a caller of an unknown path expects JSON rather than a page."""
    if scope["method"] not in ("GET", "HEAD") and scope["path"].startswith("/public/"):
        return True
    asked = header(scope, b"accept") + header(scope, b"content-type")
    return "json" in asked
