"""Pairing a number with a phone: the state that callers (operator API, command line, dashboard) show meanwhile.

Two ways: the phone scans a QR code, or its owner types an 8-character code that WhatsApp made for that phone number.
The same call pairs a number again after a logout.
"""

from __future__ import annotations

import contextlib

from kurir.channels.linked_device.channel import LinkedDevices
from kurir.channels.linked_device.pairing_progress import PairingProgress, PairingView
from kurir.channels.linked_device.peer_calls import Call, FollowPairing, PairingAnswer, StartPairing, StopPairing
from kurir.kit.clock import Clock
from kurir.kit.waits import Waits
from kurir.numbers.numbers import Number

FIRST_ANSWER = 15.0
"""Seconds that `start` waits for WhatsApp's first QR or code before it returns without one."""
_ON_THE_WAY = 5.0


class Pairing:
    """The pairings of this gateway; for a number that another gateway holds, the calls are forwarded to it.

    The phone and JID of a paired number reach the database as a ConnectionChanged.
    """

    def __init__(self, devices: LinkedDevices, clock: Clock) -> None:
        self._devices = devices
        self._clock = clock
        self._waits = Waits()

    def dismiss(self) -> None:
        """Ends all waiting at the stop: whoever waits gets the pairing's present state."""
        self._waits.dismiss()

    async def start(self, number: Number, phone: str | None = None) -> PairingView:
        """Starts a pairing, or continues the one in progress; by code when `phone` (digits) is given.

        Raises DeviceUnavailable when the number is paired already.
        """
        if not self._devices.holds(number.id):
            return await self._there(number, StartPairing(phone), FIRST_ANSWER)
        progress = await self._devices.start_pairing(number, phone)
        if progress.state == "starting":
            await self._next(progress, FIRST_ANSWER)
        return self._view(progress)

    def state(self, number: Number) -> PairingView:
        """The state of the number's latest pairing."""
        progress = self._devices.pairing(number)
        return self._view(progress) if progress is not None else PairingView("none")

    async def next(self, number: Number, timeout: float) -> PairingView:
        """The state after the next change, or after `timeout` seconds. A pairing that has ended no longer changes.

        Raises DeviceUnavailable when another gateway holds the number and does not answer.
        """
        if not self._devices.holds(number.id):
            try:
                async with self._waits.timeout(None):
                    return await self._there(number, FollowPairing(timeout), timeout)
            except TimeoutError:  # this gateway stops: the other one is asked where the pairing stands
                return await self._there(number, FollowPairing(0.0), 0.0)
        progress = self._devices.pairing(number)
        if progress is not None and progress.running:
            await self._next(progress, timeout)
        return self.state(number)

    async def cancel(self, number: Number) -> PairingView:
        """Cancels a pairing in progress. Raises DeviceUnavailable as `next` does."""
        if not self._devices.holds(number.id):
            return await self._there(number, StopPairing(), _ON_THE_WAY)
        await self._devices.stop_pairing(number)
        return self.state(number)

    async def _there(self, number: Number, call: Call, timeout: float) -> PairingView:
        answer = await self._devices.forward(number, call, timeout + _ON_THE_WAY)
        return answer.view if isinstance(answer, PairingAnswer) else PairingView("none")

    def _view(self, progress: PairingProgress) -> PairingView:
        if not progress.running:
            return PairingView(progress.state, error=progress.error)
        if progress.expires_at <= self._clock():  # the next QR is due: scanning an old one would fail
            return PairingView("starting")
        shown = bool(progress.qr or progress.code)
        return PairingView(progress.state, progress.qr, progress.code, progress.expires_at if shown else None)

    async def _next(self, progress: PairingProgress, timeout: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with self._waits.timeout(timeout):
                await progress.changed()
