"""The operator API on messages: replay and cancel single ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from kurir.kit.ids import public_message_id
from kurir.outbox.message_rows import Snapshot
from kurir.outbox.wait_reasons import reason_of
from kurir.reasons import NOTHING, sentence
from kurir.web.gateway import Gateway
from kurir.web.operator.access import Endpoint, language_for, reply, routes_of

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
    """The routes, behind the operator's token. Raises OSError."""
    section = _Messages(gateway)
    return routes_of(
        gateway,
        [
            Endpoint("POST", "/messages/{id}/replay", section.replay),
            Endpoint("POST", "/messages/{id}/cancel", section.cancel),
        ],
    )


class _Messages:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def replay(self, request: Request) -> Response:
        """Queues a failed, expired or unconfirmed message anew."""
        return await self._decided(request, self._gateway.services.message_actions.replay)

    async def cancel(self, request: Request) -> Response:
        """Ends a queued or unconfirmed message."""
        return await self._decided(request, self._gateway.services.message_actions.cancel)

    async def _decided(self, request: Request, decide: Decision) -> Response:
        services = self._gateway.services
        found = await services.messages.get_of_any(request.path_params["id"])
        decided = await decide(found.account_id, found.id)
        queued = decided.state in {"queued", "sending"}
        language = await language_for(self._gateway, request, decided.account_id)
        waits = (
            reason_of(await services.message_actions.waits_for(decided.account_id, decided.id)) if queued else NOTHING
        )
        return reply(_view(decided, sentence(waits, language), language))


def _view(message: Snapshot, waits_for: str, language: str) -> MessageView:
    return MessageView(
        public_message_id(message.id),
        message.account_id,
        message.recipient,
        message.kind,
        message.state,
        message.attempts,
        message.error_code,
        sentence(message.error_reason, language),
        message.created_at,
        waits_for,
    )
