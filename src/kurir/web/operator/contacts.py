"""The operator API on contact lists: fill them from WhatsApp, check who is on it."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from kurir.kit.tokens import load_token
from kurir.web.gateway import Gateway
from kurir.web.operator.access import Handler, device_of, guarded, reply, struct_of


class SyncRequest(msgspec.Struct):
    """Body of a sync: with `group_id` that group's members, else the phone's address book."""

    group_id: str | None = None


class CheckRequest(msgspec.Struct):
    """Body of a check: the list whose people are looked up."""

    contact_id: str


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The routes, each behind the operator's token (made now when there is none). Raises OSError."""
    token = load_token(gateway.settings.data_dir)
    section = _Contacts(gateway)
    table: list[tuple[str, Handler]] = [
        ("/api/v1/numbers/{key}/contacts/sync", section.sync),
        ("/api/v1/numbers/{key}/contacts/check", section.check),
    ]
    return [Route(path, guarded(token, handler), methods=["POST"]) for path, handler in table]


class _Contacts:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def sync(self, request: Request) -> Response:
        """Takes the address book, or a group's members, into a contact list of the account."""
        number = await device_of(self._gateway, request)
        wanted = await struct_of(request, self._gateway.settings.max_body_bytes, SyncRequest, '{"group_id": "120363…"}')
        return reply(await self._gateway.services.contact_sync.sync(number, wanted.group_id))

    async def check(self, request: Request) -> Response:
        """Asks WhatsApp about everybody in a list who was not checked yet."""
        number = await device_of(self._gateway, request)
        wanted = await struct_of(request, self._gateway.settings.max_body_bytes, CheckRequest, '{"contact_id": "…"}')
        return reply(await self._gateway.services.contact_sync.check(number, wanted.contact_id))
