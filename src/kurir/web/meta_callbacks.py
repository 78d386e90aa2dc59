"""`/meta/callbacks`: the webhook at Meta of every official number of this gateway.

GET answers Meta's verification handshake. POST takes callbacks. The cost of a stranger's request is bounded: a body of
limited size and time, of which the large ones are few at once; one query and some hashing to find whose app secret
signed it (`signers`); and a limit of unsigned ones per minute and address. An answer does not reveal whether an id is
served here: all unsigned callbacks are refused alike.

A signed callback is parsed, stored, and answered with 200 after the commit, so that Meta repeats whatever could not be
stored (for up to 7 days); repetitions are recognised by their fingerprints. A change that cannot be read or stored goes
to the quarantine and does not keep the others back; so does a body that is no JSON object or has too much in it. A
callback with unsupported content is kept raw, counted, and logged once per kind. A database that cannot store is
answered with 503 by the server.

A tenant knows the app secret and can sign any content: `services/callbacks` bounds that; a large body has its place
here until it is stored.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import structlog
from cachetools import TTLCache
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from kurir.accounts.limits import Attempt, Blocked, FailedKeys, source_of
from kurir.channels.cloud_api.callback_parts import Parts
from kurir.channels.cloud_api.signers import is_signature
from kurir.numbers.numbers import Number
from kurir.reasons import connections as reasons
from kurir.reasons.requests import BODY_TOO_LARGE, BODY_TOO_SLOW
from kurir.store.database import DatabaseUnavailable
from kurir.web.gateway import Gateway
from kurir.web.http.body import BodyTooLarge, BodyTooSlow, read_body
from kurir.web.http.refusals import HttpRefusal

PATH = "/meta/callbacks"
BODY_LIMIT = 3_000_000
"""Bytes; Meta's own limit for a callback."""
_SIGNATURE = "x-hub-signature-256"
_CHALLENGE_LIMIT = 200
_LARGE = 262_144
"""Bytes from which a body is large."""
_LARGE_AT_ONCE, _LARGE_OF_ONE = 8, 2
"""How many large ones of strangers may be in memory at once, in all and of one source."""
_GOOD_SECONDS, _GOOD_SOURCES = 24 * 3600.0, 1_000
"""How long, and for how many sources, a signed callback is remembered: most likely Meta's sources. They have limits of
their own: every tenant with an official number can sign a callback as well."""
_GOOD_TRIES = 50
"""The factor of their limit of unsigned callbacks."""
_GOOD_LARGE_AT_ONCE, _GOOD_LARGE_OF_ONE = 32, 16
"""How many large ones of theirs may be in memory at once, in all and of one source."""
_KINDS = 200
"""Kinds of unsupported content that are logged once each."""

T = TypeVar("T")
log = structlog.get_logger(__name__)


def routes(gateway: Gateway) -> list[Route]:
    """The two routes of the webhook. Raises SettingsError for a limit that cannot be read."""
    target = MetaCallbacks(gateway)
    return [Route(PATH, target.verify, methods=["GET"]), Route(PATH, target.take, methods=["POST"])]


class MetaCallbacks:
    """The handlers, and what they remember of their sources."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._callbacks = gateway.services.callbacks
        self._tries = FailedKeys(gateway.settings.callback_limit, "callback_limit")
        self._tries_of_good = FailedKeys(gateway.settings.callback_limit, "callback_limit", times=_GOOD_TRIES)
        self._good: TTLCache[str, bool] = TTLCache(_GOOD_SOURCES, _GOOD_SECONDS, gateway.clock)
        self._large = _Places(_LARGE_AT_ONCE, _LARGE_OF_ONE)
        self._large_of_good = _Places(_GOOD_LARGE_AT_ONCE, _GOOD_LARGE_OF_ONE)
        self._kinds: set[str] = set()

    async def verify(self, request: Request) -> Response:
        """Echoes the challenge to a caller with an official number's verify token (Meta, "Verification requests")."""
        query = request.query_params
        token = query.get("hub.verify_token", "")
        challenge = query.get("hub.challenge", "")
        if query.get("hub.mode") != "subscribe" or not token or not challenge or len(challenge) > _CHALLENGE_LIMIT:
            raise HttpRefusal(403, reasons.HUB_EXPECTED())
        source = _source(request)
        async with self._attempt(source) as attempt:
            if not await _given_back(attempt, self._callbacks.has_verify_token(token, source)):
                raise HttpRefusal(403, reasons.HUB_TOKEN_UNKNOWN())
            attempt.right()
        return PlainTextResponse(challenge, headers={"X-Content-Type-Options": "nosniff"})

    async def take(self, request: Request) -> Response:
        """Stores a signed callback."""
        signature = request.headers.get(_SIGNATURE)
        if not signature:
            raise HttpRefusal(401, reasons.SIGNATURE_MISSING())
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and (len(announced) > 9 or int(announced) > BODY_LIMIT):
            raise _too_large()
        source = _source(request)
        with self._room(source) as grown:
            body, signers = await self._signed(request, signature, source, grown)
            self._good[source] = True
            await self._store(body, signers)
        return JSONResponse({"success": True})

    # -- before the signature --------------------------------------------------------------------------------------

    async def _signed(self, request: Request, signature: str, source: str, grown: _Size) -> tuple[bytes, list[Number]]:
        """The body and whose app secret signed it. Raises HttpRefusal."""
        async with self._attempt(source) as attempt:
            if not is_signature(signature):
                raise self._unsigned()
            body = await _bounded(request, grown)
            signers = await _given_back(attempt, self._callbacks.signers(body, signature, source))
            if not signers:
                raise self._unsigned()
            attempt.right()
        return body, signers

    @asynccontextmanager
    async def _attempt(self, source: str) -> AsyncGenerator[Attempt]:
        """A try within the limit, which is higher for sources of signed callbacks. Raises HttpRefusal 429."""
        tries = self._tries_of_good if self._good.get(source) else self._tries
        async with contextlib.AsyncExitStack() as stack:
            try:
                attempt = await stack.enter_async_context(tries.attempt(source))
            except Blocked as blocked:
                self._gateway.metrics.called_back("limited")
                headers = {"Retry-After": str(blocked.seconds)}
                raise HttpRefusal(429, reasons.MANY_UNSIGNED(), headers) from blocked
            yield attempt

    @contextmanager
    def _room(self, source: str) -> Generator[_Size]:
        """Counts a body once it is large, until it has been stored or refused."""
        size = _Size(self._large_of_good if self._good.get(source) else self._large, source)
        try:
            yield size
        finally:
            size.end()

    def _unsigned(self) -> HttpRefusal:
        self._gateway.metrics.called_back("bad_signature")
        return HttpRefusal(403, reasons.SIGNATURE_WRONG())

    # -- after it --------------------------------------------------------------------------------------------------

    async def _store(self, body: bytes, signers: list[Number]) -> None:
        parts = await self._callbacks.take_apart(body, signers)
        new = await self._callbacks.store(parts, signers)
        metrics = self._gateway.metrics
        if not parts.is_json:
            metrics.called_back("malformed")
        elif parts.events:
            metrics.called_back("stored" if new else "duplicate")
        elif not parts.unread and not parts.entries:
            metrics.called_back("empty")
        self._note(parts)

    def _note(self, parts: Parts) -> None:
        """Counts what was unsupported or quarantined; logs each kind once."""
        metrics = self._gateway.metrics
        for kind in parts.unread:
            metrics.called_back("unknown_number" if kind == "number" else "not_read")
            if kind not in self._kinds and len(self._kinds) < _KINDS:
                self._kinds.add(kind)
                log.warning("callback_unsupported", kind=kind)
        if not parts.is_json:
            log.warning("callback_malformed", size=len(parts.entries[0].payload))
        elif parts.entries:
            metrics.called_back("set_aside")
            log.warning("callback_quarantined", entries=len(parts.entries), reason=parts.entries[0].reason)


class _Places:
    """Places for large bodies: `at_once` in all, `of_one` for each source."""

    def __init__(self, at_once: int, of_one: int) -> None:
        self._at_once = at_once
        self._of_one = of_one
        self._taken: Counter[str] = Counter()

    def take(self, source: str) -> bool:
        """Takes a place; False when none is free for that source."""
        if self._taken.total() >= self._at_once or self._taken[source] >= self._of_one:
            return False
        self._taken[source] += 1
        return True

    def give_back(self, source: str) -> None:
        """Frees a place."""
        self._taken[source] -= 1
        if not self._taken[source]:
            del self._taken[source]


class _Size:
    """The size of a body so far: it takes one of the places for large ones when it is large."""

    def __init__(self, places: _Places, source: str) -> None:
        self._places = places
        self._source = source
        self._counted = False

    def is_now(self, size: int) -> None:
        """Sets the body's size. Raises HttpRefusal 503."""
        if size <= _LARGE or self._counted:
            return
        if not self._places.take(self._source):
            raise HttpRefusal(503, reasons.MANY_LARGE(), {"Retry-After": "5"})
        self._counted = True

    def end(self) -> None:
        """Frees the body's place."""
        if self._counted:
            self._places.give_back(self._source)


async def _bounded(request: Request, size: _Size) -> bytes:
    """The raw body. Raises HttpRefusal when it is larger than Meta's limit, or too slow."""
    try:
        return await read_body(request.receive, BODY_LIMIT, arrived=size.is_now)
    except ClientDisconnect:
        return b""
    except BodyTooLarge as error:
        raise _too_large() from error
    except BodyTooSlow as error:
        raise HttpRefusal(408, BODY_TOO_SLOW(seconds=error.seconds)) from error


async def _given_back(attempt: Attempt, work: Awaitable[T]) -> T:
    """The result of `work`; a database that is away does not count as a try."""
    try:
        return await work
    except DatabaseUnavailable:
        attempt.not_looked_at()
        raise


def _too_large() -> HttpRefusal:
    return HttpRefusal(413, BODY_TOO_LARGE(limit=BODY_LIMIT))


def _source(request: Request) -> str:
    return source_of(request.client.host if request.client else "unknown")
