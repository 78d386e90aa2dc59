"""Peer calls: calls about a device, forwarded to the gateway that holds its lease.

Gateways that share a PostgreSQL share its master key, from which the bearer token of this endpoint is derived. The
receiving gateway handles a call like one of its own callers'; it never forwards it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec
import structlog

from kurir.channels.linked_device.pairing_progress import PairingView
from kurir.channels.linked_device.protocol import (
    Contacts,
    Done,
    Failed,
    Groups,
    ListContacts,
    ListGroups,
    LogOut,
    LookUp,
    OnWhatsApp,
)
from kurir.kit.connection_failures import connection_failure
from kurir.numbers.numbers import Number
from kurir.reasons import ReasonedError
from kurir.reasons import numbers as reasons
from kurir.store.database import DatabaseUnavailable

PATH = "/gateways/calls"
_CONNECT = 3.0

log = structlog.get_logger(__name__)


class DeviceUnavailable(ReasonedError):  # noqa: N818  (a state of the field, not a fault of the program)
    """The linked device cannot answer now, for a reason."""


class StartPairing(msgspec.Struct, frozen=True, tag="start_pairing"):
    """Starts a pairing, by code for `phone` (digits) when it is given."""

    phone: str | None


class FollowPairing(msgspec.Struct, frozen=True, tag="follow_pairing"):
    """Returns the pairing's state after its next change, or after `timeout` seconds."""

    timeout: float


class StopPairing(msgspec.Struct, frozen=True, tag="stop_pairing"):
    """Cancels the pairing."""


class PairingAnswer(msgspec.Struct, frozen=True, tag="pairing_stands"):
    """The answer to the three above."""

    view: PairingView


Call = LookUp | ListContacts | ListGroups | LogOut | StartPairing | FollowPairing | StopPairing
Result = Done | Failed | OnWhatsApp | Contacts | Groups | PairingAnswer


class PeerCall(msgspec.Struct, frozen=True):
    """A peer call and the number it is about."""

    account_id: int
    number_id: int
    call: Call


encode = msgspec.msgpack.Encoder().encode
decode_call = msgspec.msgpack.Decoder(PeerCall).decode
_decode_result = msgspec.msgpack.Decoder(Result).decode


class PeerCalls:
    """Forwards calls to the gateways that hold the devices. `holder` looks their addresses up."""

    def __init__(self, holder: Callable[[int], Awaitable[str | None]], token: str) -> None:
        self._holder = holder
        self._token = token

    async def run(self, number: Number, call: Call, timeout: float) -> Result:
        """The other gateway's answer. Raises DeviceUnavailable, also when it cannot be reached or refuses."""
        try:
            where = await self._holder(number.id)
        except DatabaseUnavailable as error:
            raise DeviceUnavailable(reasons.HOLDER_UNKNOWN()) from error
        if where is None:
            raise DeviceUnavailable(reasons.HELD_BY_NONE())
        try:
            result = _decode_result(await self._post(where, PeerCall(number.account_id, number.id, call), timeout))
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            # the address is of the operator's network: callers of the compatible API read the reason
            log.warning("peer_call_failed", gateway=where, error=f"{type(error).__name__}: {error}")
            raise DeviceUnavailable(reasons.HOLDER_SILENT(error=connection_failure(error))) from error
        if isinstance(result, Failed):
            raise DeviceUnavailable(result.reason)
        return result

    async def _post(self, where: str, call: PeerCall, timeout: float) -> bytes:
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=_CONNECT)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/msgpack"}
        async with (
            asyncio.timeout(timeout),
            aiohttp.ClientSession(timeout=limits, headers=headers) as session,
            session.post(where.rstrip("/") + PATH, data=encode(call), allow_redirects=False) as answer,
        ):
            answer.raise_for_status()
            return await answer.read()
