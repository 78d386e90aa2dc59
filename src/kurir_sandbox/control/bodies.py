"""Reading requests of the control API; what is wrong names its field."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec
import structlog
from aiohttp import web

from kurir_sandbox.json_values import JsonValue
from kurir_sandbox.samples import sample
from kurir_sandbox.sandbox import Sandbox
from kurir_sandbox.traffic import Media
from kurir_sandbox.web_protocol.stanza_json import FormError

SANDBOX: web.AppKey[Sandbox] = web.AppKey("sandbox", Sandbox)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Json = dict[str, Any]

log = structlog.get_logger(__name__)


class RefusalError(Exception):
    """A request that cannot be done: HTTP `status`, the `field` at fault, and why."""

    def __init__(self, field: str, reason: str, status: int = 400) -> None:
        self.field = field
        self.reason = reason
        self.status = status
        super().__init__(f"{field} {reason}")


@web.middleware
async def control_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer refusals as `{"error": {"field", "message"}}`."""
    try:
        return await handler(request)
    except RefusalError as refusal:
        return _error(refusal.field, f"{refusal.field} {refusal.reason}".strip(), refusal.status)
    except FormError as problem:
        return _error(problem.field, str(problem), 400)
    except web.HTTPException as problem:
        if problem.status < 400 or request.path.startswith("/graph"):
            raise
        return _error("path" if problem.status in (404, 405) else "body", problem.reason, problem.status)
    except Exception:
        log.exception("control_request_failed", path=request.path)
        return _error("", "the sandbox failed; see its log", 500)


def _error(field: str, message: str, status: int) -> web.Response:
    return web.json_response({"error": {"field": field, "message": message}}, status=status)


def sandbox(request: web.Request) -> Sandbox:
    """The sandbox this request is for."""
    return request.app[SANDBOX]


async def json_object(request: web.Request) -> Json:
    """The body, which must be a JSON object."""
    try:
        body: JsonValue = msgspec.json.decode(await request.read())
    except (ValueError, RecursionError):
        raise RefusalError("body", "must be a JSON object") from None
    if not isinstance(body, dict):
        raise RefusalError("body", "must be a JSON object")
    return body


def text(body: Json, key: str, default: str | None = None) -> str:
    """A string; mandatory and not empty without a `default`."""
    value = body.get(key)
    if value is None:
        value = default
    if not isinstance(value, str) or (default is None and not value):
        raise RefusalError(key, "must be a string" if default is not None else "must be a non-empty string")
    return value


def flag(body: Json, key: str, default: bool) -> bool:
    """A boolean."""
    value = body.get(key, default)
    if not isinstance(value, bool):
        raise RefusalError(key, "must be true or false")
    return value


def table(body: Json, key: str) -> Json:
    """A mandatory JSON object."""
    value: JsonValue = body.get(key)
    if not isinstance(value, dict):
        raise RefusalError(key, "must be an object")
    return value


def digits(body: Json, key: str) -> str:
    """A phone number: 5 to 20 digits; "+", spaces and dashes are dropped."""
    value = re.sub(r"[\s+().-]", "", text(body, key))
    if not re.fullmatch(r"[0-9]{5,20}", value):
        raise RefusalError(key, "must be a phone number of 5 to 20 digits")
    return value


def number(body: Json, key: str, lowest: float, highest: float) -> float:
    """A finite number between two bounds."""
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
        raise RefusalError(key, f"must be a number from {lowest:g} to {highest:g}")
    return float(value)


def integer(body: Json, key: str, lowest: int, highest: int, default: int | None = None) -> int:
    """An integer between two bounds; mandatory without a `default`."""
    value = body.get(key)
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise RefusalError(key, f"must be an integer from {lowest} to {highest}")
    return value


def query_integer(request: web.Request, key: str, default: int, highest: int = 2**62) -> int:
    """A non-negative integer of the query string."""
    value = request.query.get(key, str(default))
    if not re.fullmatch(r"[0-9]{1,19}", value) or int(value) > highest:
        raise RefusalError(key, f"must be an integer from 0 to {highest}")
    return int(value)


def query_seconds(request: web.Request, key: str, highest: float) -> float | None:
    """A non-negative number of the query string, or None."""
    value = request.query.get(key)
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= highest:
        raise RefusalError(key, f"must be a number from 0 to {highest:g}")
    return seconds


def file(body: Json, key: str, default_mime: str) -> Media:
    """A picture or document: {url} of one of our `/files`, or {data (base64), mime, name}."""
    given = table(body, key)
    if "url" in given:
        path = urlsplit(text(given, "url")).path
        found = sample(path.removeprefix("/files/")) if path.startswith("/files/") else None
        if found is None:
            raise RefusalError(f"{key}.url", "must be the address of a file under /files")
        return Media(found.mime, "" if key == "image" else text(given, "name", found.name), found.data)
    try:
        data = base64.b64decode(text(given, "data"), validate=True)
    except (binascii.Error, ValueError):
        raise RefusalError(f"{key}.data", "must be base64") from None
    mime = text(given, "mime", default_mime)
    if not re.fullmatch(r"[\w.+-]+/[\w.+-]+", mime):
        raise RefusalError(f"{key}.mime", "must be a MIME type")
    return Media(mime, "" if key == "image" else text(given, "name", "file"), data)
