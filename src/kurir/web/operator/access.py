"""Access to the operator API: one bearer token per gateway, errors that name the field.

The token: see `kit/tokens`. Error body:
`{"error": {"code": "<word>", "message": "<sentence>", "field": "<name or empty>"}}`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from kurir.channels.linked_device.channel import DeviceUnavailable
from kurir.kit.tokens import load_token, opens
from kurir.messages import bounds
from kurir.numbers.numbers import Number
from kurir.reasons import Reason, as_written, sentence
from kurir.reasons import administration as refusals
from kurir.reasons.requests import BAD_VALUE
from kurir.services.errors import Invalid, NotFound, NotPossible, ServiceError
from kurir.store.database import BadValue, DatabaseUnavailable
from kurir.web.gateway import Gateway
from kurir.web.http.languages import asked_for
from kurir.web.operator.bodies import LONGEST_NAME, check_no_fields
from kurir.web.operator.errors import ApiError

Handler = Callable[[Request], Awaitable[Response]]
log = structlog.get_logger(__name__)
PREFIX = "/api/"
"""The prefix of every path of the operator API."""
_encode = msgspec.json.Encoder().encode
_STATUS: dict[type[ServiceError], tuple[int, str]] = {
    Invalid: (400, "invalid"),
    NotFound: (404, "not_found"),
    NotPossible: (409, "not_possible"),
}


class Endpoint(NamedTuple):
    """One endpoint: its path below `/api/v1`, the query parameters it takes, and whether its handler reads a body."""

    method: str
    path: str
    handler: Handler
    query: tuple[str, ...] = ()
    body: bool = False


def reply(body: Any, status: int = 200) -> Response:
    """`body` (structs, lists, dicts) as JSON that is not cached."""
    return Response(_encode(body), status, {"Cache-Control": "no-store"}, "application/json")


def guarded(token: str, endpoint: Endpoint, limit: int) -> Handler:
    """The endpoint's handler behind the token; its ApiError, and whatever a service raises, become answers.

    Query parameters that it does not take are refused, and so are bodies with fields where it reads none, so that no
    mistyped one is ignored. `limit`: maximum bytes of a body.
    """
    handler = endpoint.handler

    @functools.wraps(handler)
    async def guard(request: Request) -> Response:
        language = asked_language(request) or "en"
        if not _bears(request, token):
            refusal = _refusal(401, "unauthorized", refusals.TOKEN_EXPECTED(), language)
            refusal.headers["WWW-Authenticate"] = "Bearer"
            return refusal
        try:
            _check_query(request, endpoint.query)
            if not endpoint.body and endpoint.method != "GET":
                await check_no_fields(request, limit)
            return await handler(request)
        except (ApiError, ServiceError) as error:
            status, code = (error.status, error.code) if isinstance(error, ApiError) else _STATUS[type(error)]
            return _refusal(status, code, error.reason, language, error.field)
        except DeviceUnavailable as error:
            return _refusal(409, "device_unavailable", error.reason, language)
        except BadValue as error:
            log.warning("value_refused", path=request.url.path, reason=str(error))
            return _refusal(400, "invalid", BAD_VALUE(), language)
        except DatabaseUnavailable as error:
            log.warning("database_unavailable", path=request.url.path, reason=str(error))
            refusal = _refusal(503, "unavailable", refusals.NOTHING_STORED(), language)
            refusal.headers["Retry-After"] = "2"
            return refusal

    return guard


def routes_of(gateway: Gateway, table: Sequence[Endpoint]) -> list[BaseRoute]:
    """The routes of these endpoints, each behind the operator's token, which is made now when there is none.

    Raises OSError.
    """
    token = load_token(gateway.settings.data_dir)
    return [
        Route(f"{PREFIX}v1{one.path}", guarded(token, one, gateway.settings.max_body_bytes), methods=[one.method])
        for one in table
    ]


def query_number(request: Request, name: str, default: int) -> int:
    """The whole number of a query parameter. Raises ApiError."""
    given = request.query_params.get(name)
    if given is None:
        return default
    found = bounds.number(given)
    if found is None:
        raise ApiError(400, "invalid", refusals.WHOLE_NUMBER(), name)
    return found


def query_seconds(request: Request, name: str, most: float) -> float:
    """The seconds of a query parameter, 0 to `most`; 0 when it is left out. Raises ApiError."""
    try:
        seconds = float(request.query_params.get(name, "0"))
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= most:
        raise ApiError(400, "invalid", refusals.SECONDS(most=most), name)
    return seconds


async def device_of(gateway: Gateway, request: Request) -> Number:
    """The linked device that the path's `key` names. Raises NotFound."""
    return await gateway.services.numbers.get_of_any(request.path_params["key"], "linked_device")


async def number_of(gateway: Gateway, request: Request) -> Number:
    """The number that the path's `key` names. Raises NotFound."""
    return await gateway.services.numbers.get_of_any(request.path_params["key"])


def asked_language(request: Request) -> str | None:
    """The language of the request's `Accept-Language`, or None."""
    return asked_for(request.headers.get("accept-language", ""))


async def language_for(gateway: Gateway, request: Request, account_id: int) -> str:
    """The language that is asked for, else the account's. Never raises DatabaseUnavailable: it is asked for after
    something was done, and the answer must say so."""
    if asked := asked_language(request):
        return asked
    try:
        return await gateway.services.accounts.language(account_id)
    except DatabaseUnavailable:
        return "en"


def unknown_request(request: Request, error: HTTPException) -> Response:
    """The answer to a path or method that this API does not have, in its own form."""
    known = {404: ("not_found", refusals.NO_SUCH_ADDRESS), 405: ("method_not_allowed", refusals.NO_SUCH_METHOD)}
    code, entry = known.get(error.status_code, ("invalid", None))
    reason = entry() if entry is not None else as_written(error.detail)
    refusal = _refusal(error.status_code, code, reason, asked_language(request) or "en")
    refusal.headers.update(error.headers or {})
    return refusal


def _check_query(request: Request, known: Sequence[str]) -> None:
    """Raises ApiError for a query parameter that the endpoint does not take, or that is given twice."""
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            reason = (
                refusals.UNKNOWN_PARAMETER(name=name, known=", ".join(known))
                if known
                else refusals.NO_PARAMETERS(name=name)
            )
            raise ApiError(400, "invalid", reason, name[:LONGEST_NAME])
        if name in seen:
            raise ApiError(400, "invalid", refusals.PARAMETER_TWICE(name=name), name)
        seen.add(name)


def _bears(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and opens(given.strip(), token)


def _refusal(status: int, code: str, reason: Reason, language: str, field: str = "") -> Response:
    return reply({"error": {"code": code, "message": sentence(reason, language), "field": field}}, status)
