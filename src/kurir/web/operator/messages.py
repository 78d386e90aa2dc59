"""The operator API on messages: replay and cancel single ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from kurir.kit.ids import parse_message_id, public_message_id
from kurir.kit.tokens import load_token
from kurir.outbox import operator_actions
from kurir.outbox.operator_actions import NotPossible
from kurir.outbox.rows import Snapshot
from kurir.outbox.waiting import sentence
from kurir.web.compat_v1.waits import waits
from kurir.web.gateway import Gateway
from kurir.web.operator.access import ApiError, Handler, guarded, reply

Decision = Callable[[int, int], Awaitable[Snapshot]]


class MessageView(msgspec.Struct):
    """A message as the operator sees it; times in unix seconds. Never its content.

    `waits_for`: what it waits for as half a sentence, "" when it has ended.
    """

    id: str
    account_id: int
    recipient: str
    kind: str
    state: str
    attempts: int
    error_code: str
    error_reason: str
    created_at: float
    waits_for: str


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The routes, each behind the operator's token (made now when there is none). Raises OSError."""
    token = load_token(gateway.settings.data_dir)
    section = _Messages(gateway)
    table: list[tuple[str, Handler]] = [
        ("/api/v1/messages/{id}/replay", section.replay),
        ("/api/v1/messages/{id}/cancel", section.cancel),
    ]
    return [Route(path, guarded(token, handler), methods=["POST"]) for path, handler in table]


class _Messages:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def replay(self, request: Request) -> Response:
        """Queues a failed, expired or unconfirmed message anew."""
        return await self._decided(request, self._gateway.outbox.replay)

    async def cancel(self, request: Request) -> Response:
        """Ends a queued or unconfirmed message."""
        return await self._decided(request, self._gateway.outbox.cancel)

    async def _decided(self, request: Request, decide: Decision) -> Response:
        message_id = parse_message_id(request.path_params["id"])
        if message_id is None:
            raise ApiError(400, "invalid", "expected a message id such as msg_0123456789abc", "id")
        found = await self._gateway.database.read(lambda c: operator_actions.get_any_account(c, message_id))
        if found is None:
            raise ApiError(404, "not_found", "there is no message with this id", "id")
        try:
            decided = await decide(found.account_id, found.id)
        except NotPossible as error:
            raise ApiError(409, "not_possible", str(error), "id") from error
        queued = decided.state in {"queued", "sending"}
        waits_for = sentence(await waits(self._gateway, decided.account_id, decided.id)) if queued else ""
        return reply(_view(decided, waits_for))


def _view(message: Snapshot, waits_for: str) -> MessageView:
    return MessageView(
        public_message_id(message.id),
        message.account_id,
        message.recipient,
        message.kind,
        message.state,
        message.attempts,
        message.error_code,
        message.error_reason,
        message.created_at,
        waits_for,
    )
