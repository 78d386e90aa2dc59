"""The operator API on the event log: what happened to an account, by cursor."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from kurir.messages import bounds
from kurir.reasons.administration import ACCOUNT_ID
from kurir.services.events import LONGEST_WAIT
from kurir.web.gateway import Gateway
from kurir.web.operator.access import Endpoint, query_number, query_seconds, reply, routes_of
from kurir.web.operator.errors import ApiError


class EventView(msgspec.Struct, frozen=True):
    """An event; `id` is a cursor, `key` what webhooks call it, `body` what they are sent. `created_at` unix seconds."""

    id: int
    key: str
    type: str
    body: msgspec.Raw
    created_at: float


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The routes, behind the operator's token. Raises OSError."""
    section = _Events(gateway)
    query = ("after", "types", "limit", "wait")
    return routes_of(gateway, [Endpoint("GET", "/accounts/{id}/events", section.listing, query)])


class _Events:
    def __init__(self, gateway: Gateway) -> None:
        self._accounts = gateway.services.accounts
        self._events = gateway.services.events

    async def listing(self, request: Request) -> Response:
        """Events after the cursor `after` (0 unless given), oldest first, with the cursor of the next page.

        `types` narrows them, with commas between; `wait` seconds for the first one, when there is none yet.
        """
        account_id = bounds.number(request.path_params["id"])
        if account_id is None:
            raise ApiError(400, "invalid", ACCOUNT_ID(), "id")
        account = await self._accounts.get(account_id)
        page = await self._events.after(
            account.id,
            query_number(request, "after", 0),
            types=[one for one in request.query_params.get("types", "").split(",") if one],
            limit=query_number(request, "limit", 100),
            wait=query_seconds(request, "wait", LONGEST_WAIT),
        )
        events = [
            EventView(one.id, one.key, one.type, msgspec.Raw(one.body.encode()), one.created_at) for one in page.events
        ]
        return reply({"events": events, "cursor": page.cursor, "more": page.more})
