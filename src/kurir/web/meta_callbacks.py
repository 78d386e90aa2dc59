"""The door for Meta: `/meta/callbacks`, the webhook of every official number of this gateway.

GET answers Meta's verification handshake. POST takes callbacks: the body is parsed only to find whose app secret must
have signed it, and believed only where that signature fits. 200 is answered after the commit, so that Meta repeats
whatever could not be stored (for up to 7 days); repetitions are recognised by their fingerprints.
"""

from __future__ import annotations

import structlog
from sqlalchemy import Connection
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from kurir import numbers
from kurir.channels.cloud_api.callbacks import Change, changes_of, read, signed_by
from kurir.foundation.database import DatabaseUnavailable
from kurir.numbers import Number
from kurir.web.gateway import Gateway

PATH = "/meta/callbacks"
BODY_LIMIT = 3_000_000
"""Bytes; Meta's own limit for a callback."""
_SIGNATURE = "x-hub-signature-256"
_CHALLENGE_LIMIT = 200

log = structlog.get_logger(__name__)


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
        return _refusal(403, "hub.mode, hub.verify_token and hub.challenge are needed")
    try:
        known = await gateway.database.read(lambda c: numbers.verify_token_matches(c, gateway.sealing, token))
    except DatabaseUnavailable:
        return _unavailable()
    if not known:
        return _refusal(403, "hub.verify_token: no official number has this token")
    return PlainTextResponse(challenge, headers={"X-Content-Type-Options": "nosniff"})


async def _take(gateway: Gateway, request: Request) -> Response:
    signature = request.headers.get(_SIGNATURE)
    if not signature:
        return _refusal(401, "X-Hub-Signature-256 is missing")
    body = await _bounded(request)
    if body is None:
        return _refusal(413, f"the body is larger than {BODY_LIMIT} bytes")
    changes = changes_of(body)
    if changes is None:
        gateway.metrics.called_back("malformed")
        return _refusal(400, "the body is not a JSON object")
    try:
        owners = await _owners(gateway, changes)
        signers = await _signers(gateway, owners, body, signature)
        if owners and not signers:
            gateway.metrics.called_back("bad_signature")
            return _refusal(403, "X-Hub-Signature-256 does not fit the body")
        reading = read(changes, lambda change: [n for n in signers if _concerns(change, n)], gateway.clock())
        if reading.events:
            pairs = [(found.event, found.fingerprint) for found in reading.events]
            new = await gateway.inbox.take(pairs, body)
            gateway.metrics.called_back("stored" if new else "duplicate")
    except DatabaseUnavailable as error:
        log.warning("callback_not_stored", reason=str(error))
        return _unavailable()
    if not owners:
        gateway.metrics.called_back("unknown_number")
    elif reading.ignored or not reading.events:
        gateway.metrics.called_back("malformed")
    return JSONResponse({"success": True})


async def _bounded(request: Request) -> bytes | None:
    """The raw body, or None when it is larger than Meta's limit."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_LIMIT:
                return None
    except ClientDisconnect:
        return b""
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


def _refusal(status: int, reason: str) -> Response:
    log.info("callback_refused", status=status, reason=reason)
    return JSONResponse({"error": reason}, status_code=status)


def _unavailable() -> Response:
    return JSONResponse({"error": "nothing can be stored now"}, status_code=503, headers={"Retry-After": "5"})
