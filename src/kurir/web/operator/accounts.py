"""The operator API on accounts: create, list, change, and their API keys."""

from __future__ import annotations

from datetime import date

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from kurir.accounts.accounts import Account
from kurir.messages import bounds
from kurir.reasons.administration import ACCOUNT_ID
from kurir.services.accounts import AccountChange, NewAccount
from kurir.services.numbers import OfficialNumber
from kurir.web.gateway import Gateway
from kurir.web.operator.access import Endpoint, reply, routes_of
from kurir.web.operator.bodies import struct_of
from kurir.web.operator.errors import ApiError


class AccountView(msgspec.Struct):
    """An account as the operator sees it; `until` is the last day of its package, in its time zone."""

    id: int
    email: str
    name: str
    package: str
    until: date
    timezone: str
    language: str
    country_code: str
    doubt: str
    repeat_guard_seconds: float


class KeyRequest(msgspec.Struct):
    """Body of a new key: what it is for."""

    label: str = ""


class DeviceRequest(msgspec.Struct):
    """Body of a new linked device: what to call it."""

    name: str = ""


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The routes, behind the operator's token. Raises OSError."""
    section = _Accounts(gateway)
    return routes_of(
        gateway,
        [
            Endpoint("GET", "/accounts", section.listing),
            Endpoint("POST", "/accounts", section.create, body=True),
            Endpoint("PATCH", "/accounts/{id}", section.change, body=True),
            Endpoint("GET", "/accounts/{id}/keys", section.keys),
            Endpoint("POST", "/accounts/{id}/keys", section.add_key, body=True),
            Endpoint("DELETE", "/accounts/{id}/keys/{last4}", section.revoke_key),
            Endpoint("POST", "/accounts/{id}/devices", section.add_device, body=True),
            Endpoint("POST", "/accounts/{id}/officials", section.add_official, body=True),
        ],
    )


class _Accounts:
    def __init__(self, gateway: Gateway) -> None:
        self._limit = gateway.settings.max_body_bytes
        self._accounts = gateway.services.accounts
        self._numbers = gateway.services.numbers

    async def listing(self, _request: Request) -> Response:
        """All accounts, oldest first."""
        return reply({"accounts": [account_view(account) for account in await self._accounts.list()]})

    async def create(self, request: Request) -> Response:
        """A new account with its first key and its owner's password, which are shown only now."""
        wanted = await struct_of(request, self._limit, NewAccount, '{"email": "owner@example.com"}')
        made = await self._accounts.create(wanted)
        body = {"account": account_view(made.account), "api_key": made.api_key, "password": made.password}
        return reply(body, 201)

    async def change(self, request: Request) -> Response:
        """Changes what is given: name, package, until, timezone, language, country_code, doubt, repeat guard."""
        wanted = await struct_of(request, self._limit, AccountChange, '{"until": "2027-12-31"}')
        return reply(account_view(await self._accounts.change(_id(request), wanted)))

    async def keys(self, request: Request) -> Response:
        """The account's live keys by their last four characters."""
        account = await self._accounts.get(_id(request))
        return reply({"keys": await self._accounts.keys(account.id)})

    async def add_key(self, request: Request) -> Response:
        """A further key, which is shown only now."""
        wanted = await struct_of(request, self._limit, KeyRequest, '{"label": "the shop"}')
        return reply({"api_key": await self._accounts.add_key(_id(request), wanted.label)}, 201)

    async def revoke_key(self, request: Request) -> Response:
        """Ends the live keys that end in these four characters."""
        count = await self._accounts.revoke_key(_id(request), request.path_params["last4"])
        return reply({"revoked": count})

    async def add_device(self, request: Request) -> Response:
        """A new linked device of the account, to be paired next."""
        account = await self._accounts.get(_id(request))
        wanted = await struct_of(request, self._limit, DeviceRequest, '{"name": "Kasir"}')
        return reply({"key": (await self._numbers.add_device(account.id, wanted.name)).key}, 201)

    async def add_official(self, request: Request) -> Response:
        """A new official number of the account."""
        account = await self._accounts.get(_id(request))
        wanted = await struct_of(request, self._limit, OfficialNumber, '{"phone": "62812…", "phone_number_id": "…"}')
        return reply({"key": (await self._numbers.add_official(account.id, wanted)).key}, 201)


def account_view(account: Account) -> AccountView:
    """The account as the operator sees it."""
    return AccountView(
        id=account.id,
        email=account.email,
        name=account.name,
        package=account.package_name,
        until=account.local(account.package_until - 1).date(),
        timezone=account.timezone,
        language=account.language,
        country_code=account.country_code,
        doubt=account.doubt,
        repeat_guard_seconds=account.repeat_guard_seconds,
    )


def _id(request: Request) -> int:
    account_id = bounds.number(request.path_params["id"])
    if account_id is None:
        raise ApiError(400, "invalid", ACCOUNT_ID(), "id")
    return account_id
