"""Faults of Graph API requests: a request as the plan sees it, and errors in Meta's form."""

from __future__ import annotations

import re

import msgspec
from aiohttp import web

from kurir_sandbox import http_faults
from kurir_sandbox.faults import Fault, Occasion
from kurir_sandbox.graph_api.errors import GraphError
from kurir_sandbox.graph_api.requests import Handler, network
from kurir_sandbox.world import Business

_KINDS = {"messages": "send", "media": "upload", "message_templates": "template", "unpause": "template"}


class _Peek(msgspec.Struct):
    """The two fields of a send request that say what it is."""

    to: str | int = ""
    status: str = ""


@web.middleware
async def faulty_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Apply the plan of faults to the request."""
    graph = network(request)
    glimpse = _glimpse(request)

    async def look() -> Occasion:
        return _look(glimpse, await request.read()) if glimpse.kind == "send" else glimpse

    return await http_faults.answer(request, handler, graph.faults, glimpse=glimpse, look=look, error=_graph_error)


def send_occasion(business: Business, to: str) -> Occasion:
    """A send request of `business` to the phone `to`."""
    return Occasion("cloud_api", business.phone, to, "send")


def _glimpse(request: web.Request) -> Occasion:
    info, parts = request.match_info, request.path.removeprefix("/graph").strip("/").split("/")
    if "ticket" in info:
        kind = "download"
    elif len(parts) == 1 or (len(parts) == 2 and re.fullmatch(r"v\d+\.\d+", parts[0])):
        kind = "object"
    else:
        kind = _KINDS.get(parts[-1], "account")
    business = network(request).world.business(info.get("id", ""))
    return Occasion("cloud_api", business.phone if business else "", "", kind)


def _look(glimpse: Occasion, raw: bytes) -> Occasion:
    """The occasion with the person's phone; a body that cannot be read is the handler's to refuse."""
    try:
        peek = msgspec.json.decode(raw, type=_Peek)
    except (ValueError, RecursionError):
        return glimpse
    kind = "read" if peek.status else "send"
    return Occasion("cloud_api", glimpse.number, re.sub(r"[^0-9]", "", str(peek.to)), kind)


def _graph_error(fault: Fault) -> web.Response:
    error = GraphError(fault.code or 1)
    return web.json_response(error.body, status=fault.status or error.status, headers=http_faults.retry_header(fault))
