"""The operator API on contact lists: fill them from WhatsApp, check who is on it."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from kurir.accounts import accounts
from kurir.accounts.accounts import Account
from kurir.contacts import contacts, sync
from kurir.contacts.sync import NoSuchGroup
from kurir.kit.tokens import load_token
from kurir.messages.addresses import AddressError
from kurir.numbers.numbers import Number
from kurir.web.gateway import Gateway
from kurir.web.operator.access import ApiError, Handler, device_of, guarded, reply, struct_of


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
        number, account = await self._parties(request)
        wanted = await struct_of(request, self._gateway.settings.max_body_bytes, SyncRequest, '{"group_id": "120363…"}')
        database, devices = self._gateway.database, self._gateway.linked_devices
        if wanted.group_id is None:
            return reply(await sync.sync_contacts(database, devices, account, number))
        try:
            return reply(await sync.sync_group(database, devices, account, number, wanted.group_id))
        except AddressError as error:
            raise ApiError(400, "invalid", f"group_id: {error}", "group_id") from error
        except NoSuchGroup as error:
            raise ApiError(404, "not_found", "the number is in no group with this group_id", "group_id") from error

    async def check(self, request: Request) -> Response:
        """Asks WhatsApp about everybody in a list who was not checked yet."""
        number, account = await self._parties(request)
        wanted = await struct_of(request, self._gateway.settings.max_body_bytes, CheckRequest, '{"contact_id": "…"}')
        contact = await self._gateway.database.read(
            lambda c: contacts.by_key(c, account.id, wanted.contact_id), of=account.id
        )
        if contact is None:
            raise ApiError(404, "not_found", "the number's account has no such contact list", "contact_id")
        return reply(
            await sync.check_numbers(self._gateway.database, self._gateway.linked_devices, account, number, contact.id)
        )

    async def _parties(self, request: Request) -> tuple[Number, Account]:
        number = await device_of(self._gateway, request)
        account = await self._gateway.database.read(
            lambda c: accounts.by_id(c, number.account_id), of=number.account_id
        )
        assert account is not None, "a number always has an account"
        return number, account
