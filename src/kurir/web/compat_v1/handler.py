"""The hot path of the compatible API: one request from its bytes to its answer, over the table of endpoints.

The order of checks is fixed: body → credentials → rate limit → package → number → key → fields. A refusal anywhere is a
`WireError`; a database that cannot store is a 503 with `Retry-After`. Anything else is a bug: it is logged with an id,
counted, and answered as 503 with that id, so that a retry is right and nothing is leaked.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from kurir.accounts.accounts import Account
from kurir.accounts.limits import RequestLimit
from kurir.kit.log_summary import LogSummary
from kurir.outbox.outbox import QueueFull
from kurir.reasons.requests import (
    BAD_VALUE,
    BODY_TOO_LARGE,
    BODY_TOO_SLOW,
    POST_ONLY,
    QUEUE_FULL,
    RATE_LIMITED,
    UNAVAILABLE,
    UNEXPECTED,
    UNKNOWN_ENDPOINT,
    UNKNOWN_OUTCOME,
)
from kurir.store.database import BadValue, CommitUnknown, DatabaseUnavailable
from kurir.web.compat_v1.body import Body
from kurir.web.compat_v1.decoding import decode
from kurir.web.compat_v1.endpoint import KEY_HEADER, Call, Endpoint
from kurir.web.compat_v1.envelopes import WireError
from kurir.web.compat_v1.http_replies import (
    Reply,
    error_body,
    headers_of,
    json_reply,
    language_of,
    send_preflight,
    send_reply,
)
from kurir.web.compat_v1.identity import Identity
from kurir.web.compat_v1.repeats import Repeats, once_of
from kurir.web.gateway import Gateway
from kurir.web.http.body import BodyTooLarge, BodyTooSlow, read_body

PREFIX = "/public/v1/"
_IDEMPOTENCY_KEY = KEY_HEADER.lower().encode()
_RETRY_AFTER = {"Retry-After": "2"}
_QUEUE_RETRY_AFTER = {"Retry-After": "30"}


log = structlog.get_logger(__name__)


def _say_strangers(reasons: dict[str, int]) -> None:
    """Logs refusals of unidentified callers, summed up: the log must not grow with each."""
    log.warning("strangers_refused", reasons=reasons)


class CompatHandler:
    """Answers `POST /public/v1/<endpoint>`; an ASGI application for that prefix."""

    def __init__(
        self, gateway: Gateway, endpoints: Sequence[Endpoint], identity: Identity, request_limit: RequestLimit
    ) -> None:
        self._gateway = gateway
        self._endpoints = {PREFIX + endpoint.path: endpoint for endpoint in endpoints}
        self._identity = identity
        self._request_limit = request_limit
        self._repeats = Repeats(gateway)
        self._strangers = LogSummary(_say_strangers)
        self._always_200 = gateway.settings.http_status == "always_200"

    def knows(self, path: str) -> bool:
        """Whether the path is an endpoint's; a trailing slash does not matter."""
        return path in self._endpoints or path.rstrip("/") in self._endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        path, method = scope["path"], scope["method"]
        endpoint = self._endpoints.get(path) or self._endpoints.get(path.rstrip("/"))
        if method == "OPTIONS":
            await send_preflight(send)
            return
        if endpoint is None:
            reply = json_reply(error_body("404", "not_found", UNKNOWN_ENDPOINT, language_of(scope), path=path))
        elif method != "POST":
            body = error_body("405", "invalid_request", POST_ONLY, language_of(scope), method=method)
            reply = json_reply(body, {"Allow": "POST, OPTIONS"})
        else:
            try:
                reply = await self._handled(endpoint, scope, receive)
            except ClientDisconnect:
                return
            if self._always_200:
                reply = Reply(200, reply.code, reply.body, reply.headers)
        await send_reply(scope, send, reply)
        label = PREFIX + endpoint.path if endpoint else "other"
        self._gateway.metrics.answered(method, label, reply.code, time.perf_counter() - started)

    async def _handled(self, endpoint: Endpoint, scope: Scope, receive: Receive) -> Reply:
        headers: dict[str, str] = {}
        account = None
        try:
            sent = headers_of(scope)
            announced = sent.get(b"content-length", b"").decode("latin-1")
            raw = await read_body(receive, self._gateway.settings.max_body_bytes, announced=announced)
            now = self._gateway.clock()
            content_type = sent.get(b"content-type", b"").decode("latin-1")
            encoding = sent.get(b"content-encoding", b"").decode("latin-1")
            body = Body(decode(raw, content_type, encoding, endpoint.credential))
            account = self._identity.known_account(body, endpoint.credential)
            if account is None:
                account = await self._identity.account(body, endpoint.credential, _address(scope))
            headers = self._counted(account, endpoint, now)
            # after the limit: accounts that may not send are limited too
            self._identity.require_package(account, now)
            number = None
            if endpoint.number_field is not None:
                number = self._identity.known_number(account, body, endpoint.number_field)
                if number is None:
                    number = await self._identity.number(account, body, endpoint.number_field)
            key = sent.get(_IDEMPOTENCY_KEY, b"").decode("latin-1")
            once = once_of(self._gateway.services.idempotency, endpoint, account, body, key)
            call = Call(account, body, now, number, once)
            if once is None:
                answer = await endpoint.handler(self._gateway, call)
            else:
                answer = await self._repeats.answer(endpoint, call)
            return json_reply(answer.body, headers | answer.headers, answer.status)
        except ClientDisconnect:
            raise
        except Exception as error:
            return self._refused(error, endpoint, account, _language(account, scope), headers)

    def _refused(
        self, error: Exception, endpoint: Endpoint, account: Account | None, language: str, headers: dict[str, str]
    ) -> Reply:
        """The answer to a request that raised, in an `except` block."""
        match error:
            case WireError():
                if account is None:
                    self._strangers.note(error.type)
                else:
                    log.info(
                        "request_refused",
                        endpoint=endpoint.path,
                        status=error.code,
                        type=error.type,
                        account_id=account.id,
                    )
                return json_reply(error.body(language), headers | error.headers)
            case BodyTooLarge() | BodyTooSlow():
                return self._refused(_unread(error), endpoint, account, language, headers)
            case QueueFull():
                body = error_body("400", "rate_limited", QUEUE_FULL, language)
                return json_reply(body, headers | _QUEUE_RETRY_AFTER)
            case BadValue():
                log.warning("value_refused", endpoint=endpoint.path, reason=str(error))
                return json_reply(error_body("400", "invalid_request", BAD_VALUE, language), headers)
            case DatabaseUnavailable():
                log.warning("database_unavailable", endpoint=endpoint.path, reason=str(error))
                return json_reply(_unavailable(error, language), headers | _RETRY_AFTER)
            case _:
                error_id = secrets.token_hex(6)
                log.exception("unexpected_error", endpoint=endpoint.path, error_id=error_id)
                self._gateway.metrics.surprised(PREFIX + endpoint.path)
                body = error_body("503", "unavailable", UNEXPECTED, language, id=error_id)
                return json_reply(body, headers | _RETRY_AFTER)

    def _counted(self, account: Account, endpoint: Endpoint, now: float) -> dict[str, str]:
        """Counts the request against the account's limit; the headers that say what is left. Raises WireError."""
        allowance = self._request_limit.take(account.id, endpoint.limit_group, now)
        headers = allowance.headers()
        if not allowance.allowed:
            raise WireError("400", "rate_limited", RATE_LIMITED, headers=headers, seconds=allowance.reset)
        return headers


def _language(account: Account | None, scope: Scope) -> str:
    return account.language if account is not None else language_of(scope)


def _unavailable(error: DatabaseUnavailable, language: str) -> dict[str, str]:
    if isinstance(error, CommitUnknown):
        return error_body("503", "unknown", UNKNOWN_OUTCOME, language)
    return error_body("503", "unavailable", UNAVAILABLE, language)


def _unread(error: BodyTooLarge | BodyTooSlow) -> WireError:
    """The refusal of a body that was not read to its end."""
    closing = {"Connection": "close"}
    if isinstance(error, BodyTooLarge):
        return WireError("400", "invalid_request", BODY_TOO_LARGE, headers=closing, limit=error.limit)
    return WireError("408", "timeout", BODY_TOO_SLOW, headers=closing, seconds=f"{error.seconds:g}")


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else "unknown"
