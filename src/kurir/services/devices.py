"""Linked devices while the gateway runs: pairing, logout, removal, live states, and what a device knows.

Methods take the Number, which was found with its account first. All raise DeviceUnavailable when the device, or the
gateway that holds it, cannot answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kurir.channels.linked_device.channel import LinkedDevices
from kurir.channels.linked_device.pairing import Pairing
from kurir.channels.linked_device.pairing_progress import PairingView
from kurir.channels.linked_device.protocol import DeviceContact, DeviceGroup
from kurir.leases import Leases
from kurir.messages.addresses import AddressError, parse_phone
from kurir.messages.channel_reports import NumberState
from kurir.numbers.numbers import Number, shown_state
from kurir.reasons import Reason
from kurir.reasons.administration import HELD_AND_OFFLINE
from kurir.services.errors import Invalid, NotPossible
from kurir.services.numbers import Numbers


@dataclass(frozen=True, slots=True)
class LiveState:
    """How a number is connected now, as shown to people.

    Of a linked device also when something last came from WhatsApp (unix seconds) and how many seconds the last check's
    answer took; None while nothing was measured.
    """

    state: NumberState
    reason: Reason
    last_heard_at: float | None = None
    round_trip: float | None = None


class Devices:
    """The linked devices that this gateway holds or can ask other gateways about."""

    def __init__(
        self, linked_devices: LinkedDevices, pairing: Pairing, leases: Leases | None, numbers: Numbers
    ) -> None:
        self._linked_devices = linked_devices
        self._pairing = pairing
        self._leases = leases
        self._numbers = numbers

    def live(self, number: Number) -> LiveState:
        """How the number (of either channel) is connected now."""
        if number.channel == "cloud_api":
            return LiveState(*shown_state(number, number.state, number.state_reason))
        heard_at, round_trip = self._linked_devices.vitals(number)
        return LiveState(*shown_state(number, *self._linked_devices.state(number)), heard_at, round_trip)

    # -- pairing ---------------------------------------------------------------------------------------------------

    async def pair(self, number: Number, phone: str | None = None) -> PairingView:
        """Starts a pairing, or continues the one in progress: by code with `phone`, else by QR. Raises Invalid."""
        digits = None
        if phone is not None:
            try:
                digits = parse_phone(phone)
            except AddressError as error:
                raise Invalid("phone", error.reason) from error
        if self._leases is not None:  # a number that was just added need not wait for the next heartbeat
            await self._leases.take(number.id)
        return await self._pairing.start(number, digits)

    async def pairing(self, number: Number, wait: float = 0.0) -> PairingView:
        """The pairing's state after its next change or after `wait` seconds."""
        return await self._pairing.next(number, wait)

    async def cancel_pairing(self, number: Number) -> PairingView:
        """Cancels a pairing in progress."""
        return await self._pairing.cancel(number)

    async def logout(self, number: Number) -> None:
        """Removes the device from its phone; its messages wait until it is paired again or expire."""
        await self._linked_devices.logout(number)

    async def remove(self, number: Number) -> Number:
        """Logs a linked device out, if connected, and removes the number (of either channel); returns it as it was.

        The session of a device that is not connected is deleted all the same; its phone lists it until it is removed
        there. Raises NotPossible while another gateway holds a device that is not connected.
        """
        if number.channel == "linked_device":
            await self._pairing.cancel(number)
            here, connected = self._linked_devices.holds(number.id), self._linked_devices.ready(number)
            if number.jid and not here and not connected:
                raise NotPossible(HELD_AND_OFFLINE(key=number.key), "key")
            if connected:
                await self._linked_devices.logout(number)
            if here:
                await self._linked_devices.forget(number)
        return await self._numbers.remove(number.account_id, number.key, left=True)

    # -- what a device knows ---------------------------------------------------------------------------------------

    async def contacts(self, number: Number) -> list[DeviceContact]:
        """The phone's address book."""
        return await self._linked_devices.contacts(number)

    async def groups(self, number: Number) -> list[DeviceGroup]:
        """The groups the number is in, with their participants."""
        return await self._linked_devices.groups(number)

    async def on_whatsapp(self, number: Number, phones: Sequence[str]) -> dict[str, bool]:
        """For each phone (digits) that WhatsApp answered for, whether it is there."""
        return await self._linked_devices.is_on_whatsapp(number, phones)
