"""`/gateways/calls`: peer calls of other gateways on the same database about devices of this one."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kurir.channels.linked_device import peer_calls
from kurir.kit.tokens import opens
from kurir.reasons.connections import FOR_GATEWAYS, NO_PEER_CALL
from kurir.reasons.requests import BODY_TOO_LARGE, BODY_TOO_SLOW
from kurir.web.gateway import Gateway
from kurir.web.http.body import BodyTooLarge, BodyTooSlow, read_body
from kurir.web.http.refusals import HttpRefusal

_MOST = 65_536
"""Bytes of a call."""


def routes(gateway: Gateway) -> list[Route]:
    """The one route, for callers with the token that is derived from the master key."""
    calls = gateway.services.peer_calls

    async def take(request: Request) -> Response:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not opens(given, calls.token):
            raise HttpRefusal(401, FOR_GATEWAYS())
        try:
            body = await read_body(request.receive, _MOST)
        except BodyTooLarge as error:
            raise HttpRefusal(413, BODY_TOO_LARGE(limit=_MOST)) from error
        except BodyTooSlow as error:
            raise HttpRefusal(408, BODY_TOO_SLOW(seconds=error.seconds)) from error
        try:
            call = peer_calls.decode_call(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise HttpRefusal(400, NO_PEER_CALL()) from error
        return Response(peer_calls.encode(await calls.run(call)), media_type="application/msgpack")

    return [Route(peer_calls.PATH, take, methods=["POST"])]
