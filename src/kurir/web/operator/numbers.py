"""The operator API on sender numbers: add, list, change, pause, remove; pairing, logout, contacts and groups."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from kurir.channels.linked_device.pairing_progress import PairingView
from kurir.numbers.numbers import Number
from kurir.reasons import sentence
from kurir.services.devices import LiveState
from kurir.web.gateway import Gateway
from kurir.web.operator.access import (
    Endpoint,
    asked_language,
    device_of,
    language_for,
    number_of,
    query_seconds,
    reply,
    routes_of,
)
from kurir.web.operator.bodies import struct_of

LONGEST_WAIT = 30.0
"""Maximum seconds of a `wait`."""


class PairingRequest(msgspec.Struct):
    """Body of a pairing: with `phone` by code, else by QR code."""

    phone: str | None = None


class NumberChange(msgspec.Struct):
    """Body of a change: what is given is changed. A new token also resumes a paused official number."""

    name: str | None = None
    access_token: str | None = None


class PauseRequest(msgspec.Struct):
    """Body of a pause: why, shown with the number."""

    reason: str = ""


class NumberView(msgspec.Struct):
    """A sender number as the operator sees it.

    `paused_at` (unix seconds; null unless it is paused) and `pause_reason` stand beside the state of its connection;
    `state` is `paused` when the pause alone keeps it from sending. Of a linked device also when something last came
    from WhatsApp (unix seconds) and how many seconds the last check's answer took; null while nothing was measured.
    """

    key: str
    account_id: int
    channel: str
    name: str
    phone: str
    state: str
    state_reason: str
    reason_code: str
    last_connected_at: float | None
    paused_at: float | None
    pause_reason: str
    last_heard_at: float | None = None
    round_trip: float | None = None


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The routes, behind the operator's token. Raises OSError."""
    section = _Numbers(gateway)
    return routes_of(
        gateway,
        [
            Endpoint("GET", "/numbers", section.listing),
            Endpoint("PATCH", "/numbers/{key}", section.change, body=True),
            Endpoint("DELETE", "/numbers/{key}", section.remove),
            Endpoint("POST", "/numbers/{key}/pause", section.pause, body=True),
            Endpoint("POST", "/numbers/{key}/resume", section.resume),
            Endpoint("GET", "/numbers/{key}/pairing", section.pairing, query=("wait",)),
            Endpoint("POST", "/numbers/{key}/pairing", section.start_pairing, body=True),
            Endpoint("DELETE", "/numbers/{key}/pairing", section.cancel_pairing),
            Endpoint("POST", "/numbers/{key}/logout", section.logout),
            Endpoint("GET", "/numbers/{key}/contacts", section.contacts),
            Endpoint("GET", "/numbers/{key}/groups", section.groups),
        ],
    )


class _Numbers:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._limit = gateway.settings.max_body_bytes
        self._numbers = gateway.services.numbers
        self._devices = gateway.services.devices

    async def listing(self, request: Request) -> Response:
        """Every account's numbers."""
        of_account = {one.id: one.language for one in await self._gateway.services.accounts.list()}
        asked = asked_language(request)
        found = await self._numbers.list_of_all()
        views = [_view(self._devices.live(one), one, asked or of_account.get(one.account_id, "id")) for one in found]
        return reply({"numbers": views})

    async def change(self, request: Request) -> Response:
        """Renames a number, or gives an official one a new access token."""
        number = await number_of(self._gateway, request)
        wanted = await struct_of(request, self._limit, NumberChange, '{"name": "Kasir"}')
        if wanted.access_token is not None:
            number = (await self._numbers.set_token(number.account_id, number.key, wanted.access_token)).number
        if wanted.name is not None:
            number = await self._numbers.rename(number.account_id, number.key, wanted.name)
        return await self._shown(request, number)

    async def pause(self, request: Request) -> Response:
        """Pauses a number until it is resumed: its messages wait, and it goes on receiving."""
        number = await number_of(self._gateway, request)
        wanted = await struct_of(request, self._limit, PauseRequest, '{"reason": "the shop is closed"}')
        return await self._shown(request, await self._numbers.pause(number.account_id, number.key, wanted.reason))

    async def resume(self, request: Request) -> Response:
        """Resumes a paused number."""
        number = await number_of(self._gateway, request)
        return await self._shown(request, await self._numbers.resume(number.account_id, number.key))

    async def remove(self, request: Request) -> Response:
        """Logs a device out, if connected, and removes the number."""
        removed = await self._devices.remove(await number_of(self._gateway, request))
        return reply({"key": removed.key, "account_id": removed.account_id, "removed": True})

    async def pairing(self, request: Request) -> Response:
        """The pairing's state; with `?wait=<seconds>` after its next change."""
        number = await device_of(self._gateway, request)
        return await self._pairing_shown(
            request, number, await self._devices.pairing(number, query_seconds(request, "wait", LONGEST_WAIT))
        )

    async def start_pairing(self, request: Request) -> Response:
        """Starts a pairing: {"phone": "62812…"} by code, {} by QR code."""
        number = await device_of(self._gateway, request)
        wanted = await struct_of(request, self._limit, PairingRequest, '{"phone": "6281234567890"}')
        return await self._pairing_shown(request, number, await self._devices.pair(number, wanted.phone), 201)

    async def cancel_pairing(self, request: Request) -> Response:
        """Cancels a pairing in progress."""
        number = await device_of(self._gateway, request)
        return await self._pairing_shown(request, number, await self._devices.cancel_pairing(number))

    async def logout(self, request: Request) -> Response:
        """Removes the device from its phone."""
        number = await device_of(self._gateway, request)
        await self._devices.logout(number)
        return await self._shown(request, number)

    async def contacts(self, request: Request) -> Response:
        """The phone's address book."""
        return reply({"contacts": await self._devices.contacts(await device_of(self._gateway, request))})

    async def groups(self, request: Request) -> Response:
        """The groups the number is in."""
        return reply({"groups": await self._devices.groups(await device_of(self._gateway, request))})

    async def _shown(self, request: Request, number: Number) -> Response:
        language = await language_for(self._gateway, request, number.account_id)
        return reply(_view(self._devices.live(number), number, language))

    async def _pairing_shown(self, request: Request, number: Number, view: PairingView, status: int = 200) -> Response:
        language = await language_for(self._gateway, request, number.account_id)
        return reply(msgspec.structs.asdict(view) | {"error": sentence(view.error, language)}, status)


def _view(live: LiveState, number: Number, language: str) -> NumberView:
    return NumberView(
        key=number.key,
        account_id=number.account_id,
        channel=number.channel,
        name=number.name,
        phone=number.phone,
        state=live.state,
        state_reason=sentence(live.reason, language),
        reason_code=live.reason.code,
        last_connected_at=number.last_connected_at,
        paused_at=number.paused_at,
        pause_reason=sentence(number.pause_reason, language),
        last_heard_at=live.last_heard_at,
        round_trip=live.round_trip,
    )
