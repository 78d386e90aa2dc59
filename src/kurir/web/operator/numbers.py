"""The operator API on sender numbers: their state, pairing, logout, contacts and groups."""

from __future__ import annotations

import math

import msgspec
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from kurir.kit.tokens import load_token
from kurir.messages.addresses import AddressError, parse_phone
from kurir.numbers import numbers
from kurir.numbers.numbers import Number, shown_state
from kurir.web.gateway import Gateway
from kurir.web.operator.access import ApiError, Handler, device_of, guarded, reply, struct_of

LONGEST_WAIT = 30.0
"""Most seconds that a `wait` may ask for."""


class PairingRequest(msgspec.Struct):
    """Body of a pairing: with `phone` by code, else by QR code."""

    phone: str | None = None


class NumberView(msgspec.Struct):
    """A sender number as the operator sees it.

    Of a linked device also when something last came from WhatsApp (unix seconds) and how many seconds the last check's
    answer took; null while nothing was measured.
    """

    key: str
    account_id: int
    channel: str
    name: str
    phone: str
    state: str
    state_reason: str
    last_connected_at: float | None
    last_heard_at: float | None = None
    round_trip: float | None = None


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The routes, each behind the operator's token (made now when there is none). Raises OSError."""
    token = load_token(gateway.settings.data_dir)
    section = _Numbers(gateway)
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/api/v1/numbers", section.listing),
        ("GET", "/api/v1/numbers/{key}/pairing", section.pairing),
        ("POST", "/api/v1/numbers/{key}/pairing", section.start_pairing),
        ("DELETE", "/api/v1/numbers/{key}/pairing", section.cancel_pairing),
        ("POST", "/api/v1/numbers/{key}/logout", section.logout),
        ("GET", "/api/v1/numbers/{key}/contacts", section.contacts),
        ("GET", "/api/v1/numbers/{key}/groups", section.groups),
    ]
    return [Route(path, guarded(token, handler), methods=[method]) for method, path, handler in table]


class _Numbers:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def listing(self, _request: Request) -> Response:
        """Every account's numbers."""

        def work(connection: Connection) -> list[Number]:
            return [
                *numbers.all_of_channel(connection, "linked_device"),
                *numbers.all_of_channel(connection, "cloud_api"),
            ]

        found = await self._gateway.database.read(work, pool="lists")
        return reply({"numbers": [self._view(number) for number in found]})

    async def pairing(self, request: Request) -> Response:
        """Where the pairing stands; with `?wait=<seconds>` after its next change."""
        number = await device_of(self._gateway, request)
        wait = _seconds(request, "wait")
        return reply(await self._gateway.pairing.next(number, wait))

    async def start_pairing(self, request: Request) -> Response:
        """Begins a pairing: {"phone": "62812…"} by code, {} by QR code."""
        number = await device_of(self._gateway, request)
        limit = self._gateway.settings.max_body_bytes
        wanted = await struct_of(request, limit, PairingRequest, '{"phone": "6281234567890"}')
        phone = None
        if wanted.phone is not None:
            try:
                phone = parse_phone(wanted.phone)
            except AddressError as error:
                raise ApiError(400, "invalid", f"phone: {error}", "phone") from error
        if self._gateway.leases is not None:  # a number that was just added need not wait for the next heartbeat
            await self._gateway.leases.take(number.id)
        return reply(await self._gateway.pairing.start(number, phone), 201)

    async def cancel_pairing(self, request: Request) -> Response:
        """Gives up a pairing under way."""
        return reply(await self._gateway.pairing.cancel(await device_of(self._gateway, request)))

    async def logout(self, request: Request) -> Response:
        """Removes the device from its phone."""
        number = await device_of(self._gateway, request)
        await self._gateway.linked_devices.logout(number)
        return reply(self._view(number))

    async def contacts(self, request: Request) -> Response:
        """The phone's address book."""
        number = await device_of(self._gateway, request)
        return reply({"contacts": await self._gateway.linked_devices.contacts(number)})

    async def groups(self, request: Request) -> Response:
        """The groups the number is in."""
        number = await device_of(self._gateway, request)
        return reply({"groups": await self._gateway.linked_devices.groups(number)})

    def _view(self, number: Number) -> NumberView:
        state, reason = number.state, number.state_reason
        heard_at, round_trip = None, None
        if number.channel == "linked_device":
            state, reason = self._gateway.linked_devices.state(number)
            heard_at, round_trip = self._gateway.linked_devices.vitals(number)
        state, reason = shown_state(number, state, reason)
        return NumberView(
            key=number.key,
            account_id=number.account_id,
            channel=number.channel,
            name=number.name,
            phone=number.phone,
            state=state,
            state_reason=reason,
            last_connected_at=number.last_connected_at,
            last_heard_at=heard_at,
            round_trip=round_trip,
        )


def _seconds(request: Request, name: str) -> float:
    text = request.query_params.get(name, "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= LONGEST_WAIT:
        raise ApiError(400, "invalid", f"{name}: expected seconds from 0 to {LONGEST_WAIT:.0f}", name)
    return seconds
