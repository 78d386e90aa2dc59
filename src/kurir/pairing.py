"""Pairing a number with a phone: what callers (operator API, command line, dashboard) show while it goes on.

Two ways: the phone scans a QR code, or its owner types an 8-character code that WhatsApp made for that phone number.
The same call pairs a number again after a logout.
"""

from __future__ import annotations

import asyncio

import msgspec

from kurir.channels.linked_device.channel import LinkedDevices
from kurir.channels.linked_device.pairing_progress import PairingProgress
from kurir.foundation.clock import Clock
from kurir.numbers import Number

FIRST_ANSWER = 15.0
"""Seconds that `start` waits for WhatsApp's first QR or code before it answers with what there is."""


class PairingView(msgspec.Struct, frozen=True):
    """Where a pairing stands.

    `state`: none (no pairing since the start), starting, qr (show `qr`), code (show `code`), paired, expired, failed
    (`error` says why). `expires_at` in unix seconds, until when `qr` or `code` is good; None when there is neither.
    """

    state: str
    qr: str = ""
    code: str = ""
    expires_at: float | None = None
    error: str = ""


class Pairing:
    """The pairings of this gateway. The phone and JID of a paired number reach the database as a ConnectionChanged."""

    def __init__(self, devices: LinkedDevices, clock: Clock) -> None:
        self._devices = devices
        self._clock = clock

    async def start(self, number: Number, phone: str | None = None) -> PairingView:
        """Begins a pairing, or goes on with the one under way; by code when `phone` (digits) is given.

        Raises DeviceUnavailable when the number is paired already.
        """
        progress = await self._devices.start_pairing(number, phone)
        if progress.state == "starting":
            await _next(progress, FIRST_ANSWER)
        return self._view(progress)

    def state(self, number: Number) -> PairingView:
        """Where the number's latest pairing stands."""
        progress = self._devices.pairing(number)
        return self._view(progress) if progress is not None else PairingView("none")

    async def next(self, number: Number, patience: float) -> PairingView:
        """The same after the next change, or after `patience` seconds. A pairing that has ended changes no more."""
        progress = self._devices.pairing(number)
        if progress is not None and progress.running:
            await _next(progress, patience)
        return self.state(number)

    async def cancel(self, number: Number) -> PairingView:
        """Gives up a pairing under way."""
        await self._devices.stop_pairing(number)
        return self.state(number)

    def _view(self, progress: PairingProgress) -> PairingView:
        if not progress.running:
            return PairingView(progress.state, error=progress.error)
        if progress.expires_at <= self._clock():  # the next QR is due: an old one would only be scanned in vain
            return PairingView("starting")
        shown = bool(progress.qr or progress.code)
        return PairingView(progress.state, progress.qr, progress.code, progress.expires_at if shown else None)


async def _next(progress: PairingProgress, patience: float) -> None:
    try:
        async with asyncio.timeout(patience):
            await progress.changed()
    except TimeoutError:
        return
