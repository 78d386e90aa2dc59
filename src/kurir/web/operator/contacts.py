"""The operator API on contact lists: fill them from WhatsApp, check who is on it."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from kurir.web.gateway import Gateway
from kurir.web.operator.access import Endpoint, device_of, reply, routes_of
from kurir.web.operator.bodies import struct_of


class SyncRequest(msgspec.Struct):
    """Body of a sync: with `group_id` that group's members, else the phone's address book."""

    group_id: str | None = None


class CheckRequest(msgspec.Struct):
    """Body of a check: the list whose people are looked up."""

    contact_id: str


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The routes, behind the operator's token. Raises OSError."""
    section = _Contacts(gateway)
    return routes_of(
        gateway,
        [
            Endpoint("POST", "/numbers/{key}/contacts/sync", section.sync, body=True),
            Endpoint("POST", "/numbers/{key}/contacts/check", section.check, body=True),
        ],
    )


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
