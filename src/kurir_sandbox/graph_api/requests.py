"""Graph API requests: access tokens, the objects they may touch, JSON bodies, and errors as Meta answers them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog
from aiohttp import web

from kurir_sandbox.graph_api.errors import GraphError, invalid_token, unknown_object
from kurir_sandbox.graph_api.server import GraphNetwork
from kurir_sandbox.json_values import JsonValue
from kurir_sandbox.world import Business

NETWORK: web.AppKey[GraphNetwork] = web.AppKey("graph_network", GraphNetwork)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger(__name__)


@web.middleware
async def graph_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer refusals in Meta's form."""
    try:
        return await handler(request)
    except GraphError as error:
        return web.json_response(error.body, status=error.status)
    except web.HTTPRequestEntityTooLarge:
        return web.json_response(GraphError(100, message="(#100) The request is too large.").body, status=413)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
        path = request.path.removeprefix("/graph")
        error = GraphError(2500, message=f"Unknown path components: {path[:200]}")
        return web.json_response(error.body, status=400)
    except web.HTTPException:
        raise
    except Exception:
        log.exception("graph_request_failed", path=request.path)
        return web.json_response(GraphError(1, message="(#1) An unknown error occurred").body, status=500)


def network(request: web.Request) -> GraphNetwork:
    """The network this request is for."""
    return request.app[NETWORK]


def token_holders(request: web.Request) -> list[Business]:
    """The official numbers that the request's token opens. Raises GraphError 190."""
    header = request.headers.get("Authorization", "")
    match = re.fullmatch(r"(?:Bearer|OAuth)\s+(\S+)", header, re.IGNORECASE)
    token = match[1] if match else request.query.get("access_token", "")
    if not token:
        raise invalid_token("An access token is required to request this resource")
    holders = [business for business in network(request).world.businesses() if business.access_token == token]
    if not holders:
        raise invalid_token("Cannot parse access token")
    return holders


def number(request: web.Request) -> Business:
    """The official number in the path, if the token opens it."""
    found = find_number(request)
    if found is None:
        raise unknown_object(request.match_info["id"], request.method)
    return found


def find_number(request: web.Request) -> Business | None:
    """Like `number`, or None when the id in the path is no number of this token."""
    wanted = request.match_info["id"]
    return next((one for one in token_holders(request) if one.phone_number_id == wanted), None)


def account(request: web.Request) -> list[Business]:
    """The numbers of the WhatsApp Business Account in the path; never empty."""
    wanted = request.match_info["id"]
    found = [one for one in token_holders(request) if one.waba_id == wanted]
    if not found:
        raise unknown_object(wanted, request.method)
    return found


async def json_object(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object. Raises GraphError 100."""
    raw = await request.read()
    try:
        body: JsonValue = msgspec.json.decode(raw or b"{}")
    except (ValueError, RecursionError):
        raise GraphError(100, message="(#100) The request body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise GraphError(100, message="(#100) The request body must be a JSON object.")
    return body


def page_limit(request: web.Request, default: int = 25, largest: int = 1000) -> int:
    """The `limit` of a listing."""
    given = request.query.get("limit", str(default))
    if not re.fullmatch(r"\d{1,6}", given) or not 1 <= int(given) <= largest:
        raise GraphError(100, message=f"(#100) Param limit must be an integer from 1 to {largest}")
    return int(given)
