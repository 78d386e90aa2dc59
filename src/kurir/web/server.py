"""The endpoints of one gateway, put together: an ASGI application.

`/public/v1/…` goes to the compatible API's handler without a framework in between; everything else (health, the
operator API, Meta's callbacks, the reference and start page) goes through Starlette. Unknown paths get JSON or a small
page, as asked.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from kurir.accounts.limits import RequestLimit
from kurir.reasons import Reason
from kurir.reasons.connections import FOREIGN_HOST
from kurir.reasons.requests import BAD_VALUE, UNAVAILABLE, UNEXPECTED
from kurir.store.database import BadValue, DatabaseUnavailable, in_all
from kurir.web import health, meta_callbacks, peers, reference_pages
from kurir.web.compat_v1.endpoint import Endpoint
from kurir.web.compat_v1.endpoint_table import ENDPOINTS
from kurir.web.compat_v1.handler import PREFIX, CompatHandler
from kurir.web.compat_v1.http_replies import header, json_reply, language_of, send_reply, wants_json
from kurir.web.compat_v1.identity import Identity
from kurir.web.gateway import Gateway
from kurir.web.http.allowed_hosts import host_check
from kurir.web.http.refusals import reason_of, refusal_body
from kurir.web.operator import access, accounts, contacts, events, messages, numbers, quarantine

log = structlog.get_logger(__name__)


def build(gateway: Gateway, base_url: str, endpoints: Sequence[Endpoint] = ENDPOINTS) -> ASGIApp:
    """The gateway's ASGI application: the endpoints that its roles ask for; health and metrics always.

    `base_url` is the address under which callers reach it, as the reference shows it; `endpoints` the table of the
    compatible API. Raises SettingsError when a limit in the settings cannot be read.
    """
    identity = Identity(gateway.services.callers)
    compat_handler = CompatHandler(gateway, endpoints, identity, RequestLimit(gateway.settings.rate_limit))

    async def database_unavailable(request: Request, error: Exception) -> Response:
        log.warning("database_unavailable", path=request.url.path, reason=str(error))
        return _error(request.scope, 503, UNAVAILABLE(), {"Retry-After": "2"})

    async def bad_value(request: Request, error: Exception) -> Response:
        log.warning("value_refused", path=request.url.path, reason=str(error))
        return _error(request.scope, 400, BAD_VALUE(), {})

    async def unexpected(request: Request, error: Exception) -> Response:
        error_id = secrets.token_hex(6)
        log.error("unexpected_error", path=request.url.path, error_id=error_id, exc_info=error)
        gateway.metrics.surprised("other")
        return _error(request.scope, 503, UNEXPECTED(id=error_id), {"Retry-After": "2"})

    answering = "api" in gateway.settings.roles
    routes = list(health.routes(gateway))
    if gateway.services.peer_calls.possible and "dispatch" in gateway.settings.roles:
        routes += peers.routes(gateway)
    if answering:
        routes += [
            *accounts.routes(gateway),
            *numbers.routes(gateway),
            *contacts.routes(gateway),
            *events.routes(gateway),
            *messages.routes(gateway),
            *quarantine.routes(gateway),
            *meta_callbacks.routes(gateway),
            *reference_pages.routes(gateway, endpoints, base_url.rstrip("/")),
        ]

    rest = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _refused,
            ClientDisconnect: _gone,
            DatabaseUnavailable: database_unavailable,
            BadValue: bad_value,
            Exception: unexpected,
        },
    )

    may_ask = host_check(gateway.settings, base_url)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if may_ask is not None and not may_ask(header(scope, b"host").encode("latin-1")):
            body = refusal_body(421, FOREIGN_HOST(), language_of(scope))
            await send_reply(scope, send, json_reply(body, status=421))
            return
        with in_all():
            if answering and scope["type"] == "http" and is_for_compat(scope):
                await compat_handler(scope, receive, send)
            else:
                await others(scope, receive, send)

    def is_for_compat(scope: Scope) -> bool:
        path = scope["path"]
        return compat_handler.knows(path) or (path.startswith(PREFIX) and wants_json(scope))

    async def others(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await rest(scope, receive, send)
        except Exception as error:
            if scope["type"] != "http":
                raise
            # `unexpected` has answered it; Starlette raises it once more for the server's log
            log.debug("answered_unexpected_error", error=type(error).__name__)

    return app


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if request.url.path.startswith(access.PREFIX):
        return access.unknown_request(request, error)
    if error.status_code == 404 and not wants_json(request.scope):
        return reference_pages.not_found_page(request)
    return _error(request.scope, error.status_code, reason_of(error), dict(error.headers or {}))


async def _gone(_request: Request, _error: Exception) -> Response:
    """Ends a request whose client disconnected before it was complete; the answer is not read."""
    return Response(status_code=400)


def _error(scope: Scope, status: int, reason: Reason, headers: dict[str, str]) -> Response:
    body = refusal_body(status, reason, language_of(scope))
    return JSONResponse(body, status, {"Cache-Control": "no-store", **headers})
