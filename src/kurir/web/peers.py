"""The door for other gateways on the same database: they ask about devices that this one carries."""

from __future__ import annotations

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kurir.channels.linked_device import peer_calls
from kurir.channels.linked_device import protocol as say
from kurir.channels.linked_device.peer_calls import DeviceUnavailable, Order, PairingAnswer, Result
from kurir.kit.tokens import opens
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.web.gateway import Gateway
from kurir.web.http.body import BodyTooLarge, BodyTooSlow, read_body

_MOST = 65_536


def routes(gateway: Gateway) -> list[Route]:
    """`POST /gateways/errands`, for whoever has the token that only the shared master key gives."""
    expected = peer_token(gateway)

    async def take(request: Request) -> Response:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not opens(given, expected):
            raise HTTPException(401, "this door is for gateways that share the database")
        try:
            body = await read_body(request.receive, _MOST)
        except BodyTooLarge as error:
            raise HTTPException(413, str(error)) from error
        except BodyTooSlow as error:
            raise HTTPException(408, str(error)) from error
        try:
            order = peer_calls.decode_order(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise HTTPException(400, "this is no errand; do all gateways have the same version?") from error
        return Response(peer_calls.encode(await _run(gateway, order)), media_type="application/msgpack")

    return [Route(peer_calls.PATH, take, methods=["POST"])]


def peer_token(gateway: Gateway) -> str:
    """What opens the door."""
    return gateway.sealing.derive("peer calls").hex()


async def _run(gateway: Gateway, order: Order) -> Result:
    number = await gateway.database.read(
        lambda c: numbers.by_id(c, order.account_id, order.number_id), of=order.account_id
    )
    if number is None or not gateway.linked_devices.holds(order.number_id):
        return say.Failed("the device is just moving from one gateway to another: try again in a moment")
    try:
        return await _done(gateway, number, order.call)
    except DeviceUnavailable as error:
        return say.Failed(str(error))


async def _done(gateway: Gateway, number: Number, call: peer_calls.PeerCall) -> Result:  # noqa: PLR0911 - one each
    devices, pairing = gateway.linked_devices, gateway.pairing
    match call:
        case say.LookUp(phones=phones):
            return say.OnWhatsApp(await devices.is_on_whatsapp(number, phones))
        case say.ListContacts():
            return say.Contacts(await devices.contacts(number))
        case say.ListGroups():
            return say.Groups(await devices.groups(number))
        case say.LogOut():
            await devices.logout(number)
            return say.Done()
        case peer_calls.StartPairing(phone=phone):
            return PairingAnswer(await pairing.start(number, phone))
        case peer_calls.FollowPairing(timeout=timeout):
            return PairingAnswer(await pairing.next(number, timeout))
        case peer_calls.StopPairing():
            return PairingAnswer(await pairing.cancel(number))
