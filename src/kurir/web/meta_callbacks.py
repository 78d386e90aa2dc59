"""The door for Meta: `/meta/callbacks`, the webhook of every official number of this gateway.

GET answers Meta's verification handshake. POST takes callbacks: the body is parsed only to find whose app secret must
have signed it, and believed only where that signature fits. 200 is answered after the commit, so that Meta repeats
whatever could not be stored (for up to 7 days); repetitions are recognised by their fingerprints. A database that
cannot store is answered with 503 by the server.
"""

from __future__ import annotations

import asyncio

from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from kurir import numbers
from kurir.channels.cloud_api.callbacks import Change, changes_of, read, signed_by
from kurir.numbers import Number
from kurir.web.gateway import Gateway

PATH = "/meta/callbacks"
BODY_LIMIT = 3_000_000
"""Bytes; Meta's own limit for a callback."""
_SIGNATURE = "x-hub-signature-256"
_CHALLENGE_LIMIT = 200
_BODY_PATIENCE = 20.0
"""Seconds a body may take to arrive; Meta's own patience is shorter."""


def routes(gateway: Gateway) -> list[Route]:
    """The two routes of the webhook."""

    async def verify(request: Request) -> Response:
        return await _verify(gateway, request)

    async def take(request: Request) -> Response:
        return await _take(gateway, request)

    return [Route(PATH, verify, methods=["GET"]), Route(PATH, take, methods=["POST"])]


async def _verify(gateway: Gateway, request: Request) -> Response:
    """Echoes the challenge to who knows an official number's verify token (Meta, "Verification requests")."""
    query = request.query_params
    token = query.get("hub.verify_token", "")
    challenge = query.get("hub.challenge", "")
    if query.get("hub.mode") != "subscribe" or not token or not challenge or len(challenge) > _CHALLENGE_LIMIT:
        raise HTTPException(403, "hub.mode, hub.verify_token and hub.challenge are needed")
    if not await gateway.database.read(lambda c: numbers.verify_token_matches(c, gateway.sealing, token)):
        raise HTTPException(403, "hub.verify_token: no official number has this token")
    return PlainTextResponse(challenge, headers={"X-Content-Type-Options": "nosniff"})


async def _take(gateway: Gateway, request: Request) -> Response:
    signature = request.headers.get(_SIGNATURE)
    if not signature:
        raise HTTPException(401, "X-Hub-Signature-256 is missing")
    body = await _bounded(request)
    changes = changes_of(body)
    if changes is None:
        gateway.metrics.called_back("malformed")
        raise HTTPException(400, "the body is not a JSON object")
    owners = await _owners(gateway, changes)
    signers = await _signers(gateway, owners, body, signature)
    if owners and not signers:
        gateway.metrics.called_back("bad_signature")
        raise HTTPException(403, "X-Hub-Signature-256 does not fit the body")
    reading = read(changes, lambda change: [n for n in signers if _concerns(change, n)], gateway.clock())
    if reading.events:
        new = await gateway.inbox.take([(found.event, found.fingerprint) for found in reading.events], body)
        gateway.metrics.called_back("stored" if new else "duplicate")
    if not owners:
        gateway.metrics.called_back("unknown_number")
    elif reading.ignored or not reading.events:
        gateway.metrics.called_back("malformed")
    return JSONResponse({"success": True})


async def _bounded(request: Request) -> bytes:
    """The raw body. Raises HTTPException when it is larger than Meta's limit, or too slow."""
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_PATIENCE):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_LIMIT:
                    raise HTTPException(413, f"the body is larger than {BODY_LIMIT} bytes")
    except ClientDisconnect:
        return b""
    except TimeoutError as error:
        raise HTTPException(408, f"the body did not arrive within {_BODY_PATIENCE:g} seconds") from error
    return bytes(body)


async def _owners(gateway: Gateway, changes: list[Change]) -> list[Number]:
    """The official numbers that the changes claim to be about."""
    phone_number_ids = {change.phone_number_id for change in changes if change.phone_number_id}
    waba_ids = {change.waba_id for change in changes if not change.phone_number_id and change.waba_id}

    def work(connection: Connection) -> list[Number]:
        found: dict[int, Number] = {}
        for phone_number_id in phone_number_ids:
            found.update({n.id: n for n in numbers.by_phone_number_id(connection, phone_number_id)})
        for waba_id in waba_ids:
            found.update({n.id: n for n in numbers.by_waba_id(connection, waba_id)})
        return list(found.values())

    return await gateway.database.read(work)


async def _signers(gateway: Gateway, owners: list[Number], body: bytes, signature: str) -> list[Number]:
    """The numbers whose own app secret signed the body. Two accounts may claim one id; only the right one signs."""
    found: list[Number] = []
    for number in owners:
        credentials = await gateway.cloud_api.credentials.of(number)
        if credentials is not None and signed_by(credentials.app_secret, body, signature):
            found.append(number)
    return found


def _concerns(change: Change, number: Number) -> bool:
    if change.phone_number_id:
        return change.phone_number_id == number.phone_number_id
    return bool(change.waba_id) and change.waba_id == number.waba_id
