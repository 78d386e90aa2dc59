"""Peer calls of other gateways on the same database to the linked devices that this one holds."""

from __future__ import annotations

from kurir.channels.linked_device import peer_calls
from kurir.channels.linked_device import protocol as say
from kurir.channels.linked_device.channel import LinkedDevices
from kurir.channels.linked_device.pairing import Pairing
from kurir.channels.linked_device.peer_calls import DeviceUnavailable, PairingAnswer, PeerCall, Result
from kurir.kit.sealing import Sealing
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.reasons.numbers import MOVING_GATEWAY
from kurir.store.database import Database


class ReceivedPeerCalls:
    """Performs other gateways' peer calls. `token` is derived from the shared master key."""

    def __init__(self, database: Database, sealing: Sealing, linked_devices: LinkedDevices, pairing: Pairing) -> None:
        self.token = sealing.derive("peer calls").hex()
        self._database = database
        self._linked_devices = linked_devices
        self._pairing = pairing

    @property
    def possible(self) -> bool:
        """Whether other gateways can share the database."""
        return self._database.shared

    async def run(self, received: PeerCall) -> Result:
        """The device's answer, or why there is none. Raises DatabaseUnavailable."""
        number = await self._database.read(
            lambda c: numbers.by_id(c, received.account_id, received.number_id), of=received.account_id
        )
        if number is None or not self._linked_devices.holds(received.number_id):
            return say.Failed(MOVING_GATEWAY())
        try:
            return await self._done(number, received.call)
        except DeviceUnavailable as error:
            return say.Failed(error.reason)

    async def _done(self, number: Number, call: peer_calls.Call) -> Result:  # noqa: PLR0911 - one each
        devices, pairing = self._linked_devices, self._pairing
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
