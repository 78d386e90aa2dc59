"""`/gateways/calls`: peer calls of other gateways on the same database about devices of this one."""

from __future__ import annotations

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kurir.channels.linked_device import peer_calls
from kurir.kit.tokens import opens
from kurir.web.gateway import Gateway
from kurir.web.http.body import BodyTooLarge, BodyTooSlow, read_body

_MOST = 65_536
"""Bytes of a call."""


def routes(gateway: Gateway) -> list[Route]:
    """The one route, for callers with the token that is derived from the master key."""
    calls = gateway.services.peer_calls

    async def take(request: Request) -> Response:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not opens(given, calls.token):
            raise HTTPException(401, "this is for gateways that share the database")
        try:
            body = await read_body(request.receive, _MOST)
        except BodyTooLarge as error:
            raise HTTPException(413, str(error)) from error
        except BodyTooSlow as error:
            raise HTTPException(408, str(error)) from error
        try:
            call = peer_calls.decode_call(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise HTTPException(400, "this is no peer call; do all gateways have the same version?") from error
        return Response(peer_calls.encode(await calls.run(call)), media_type="application/msgpack")

    return [Route(peer_calls.PATH, take, methods=["POST"])]
