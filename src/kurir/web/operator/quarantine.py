"""The operator API on the quarantine: list, replay and discard what could not be processed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from kurir.messages import bounds
from kurir.quarantine.quarantine import Entry, Line
from kurir.reasons import read, sentence
from kurir.reasons.administration import RANGE
from kurir.reasons.replays import ENTRY_ID
from kurir.web.gateway import Gateway
from kurir.web.operator.access import Endpoint, asked_language, query_number, reply, routes_of
from kurir.web.operator.errors import ApiError

_MOST = 1_000


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The routes, behind the operator's token. Raises OSError."""
    section = _Quarantine(gateway)
    return routes_of(
        gateway,
        [
            Endpoint("GET", "/quarantine", section.list, query=("before", "limit")),
            Endpoint("POST", "/quarantine/{id}/replay", section.replay),
            Endpoint("POST", "/quarantine/{id}/discard", section.discard),
        ],
    )


class _Quarantine:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def list(self, request: Request) -> Response:
        """Entries, newest first; `before` (an id) begins the next page, `limit` is 100 unless given."""
        before = query_number(request, "before", 0)
        limit = query_number(request, "limit", 100)
        if not 1 <= limit <= _MOST:
            raise ApiError(400, "invalid", RANGE(least=1, most=_MOST), "limit")
        found = await self._gateway.services.quarantine.list(before=before, limit=limit)
        language = asked_language(request) or "en"
        return reply({"entries": [_spoken(one.line, language) for one in found]})

    async def replay(self, request: Request) -> Response:
        """Puts an entry back into its queue."""
        return await self._decided(request, self._gateway.services.replays.replay_of_any)

    async def discard(self, request: Request) -> Response:
        """Removes an entry for good."""
        return await self._decided(request, self._gateway.services.quarantine.discard_of_any)

    @staticmethod
    async def _decided(request: Request, decide: Callable[[int], Awaitable[Entry]]) -> Response:
        entry_id = bounds.number(request.path_params["id"])
        if entry_id is None:
            raise ApiError(400, "invalid", ENTRY_ID(), "id")
        return reply(_spoken(_view(await decide(entry_id)), asked_language(request) or "en"))


def _view(entry: Entry) -> Line:
    """An entry as the operator sees it: without its payload, which holds a message."""
    return Line(
        entry.id,
        entry.account_id,
        entry.number_id,
        entry.queue,
        entry.reference,
        entry.reason,
        len(entry.payload),
        entry.stored_at,
    )


def _spoken(line: Line, language: str) -> Line:
    """The line with its reason as a sentence."""
    return msgspec.structs.replace(line, reason=sentence(read(line.reason), language))
