"""The connection of one linked device, as this process knows it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from kurir.channels.linked_device.pairing_progress import PairingProgress
from kurir.messages.channel_reports import NumberState
from kurir.numbers.numbers import Number
from kurir.reasons import NOTHING, Reason


@dataclass(slots=True)
class DeviceConnection:
    """A number's connection as this process knows it. `leaving`: this gateway is logging it out.

    `heard_at`: when anything last came from WhatsApp (unix seconds); `round_trip`: seconds of the last check's answer;
    `failing`: since when its session is unusable, until it is reopened; `jid`: of the latest pairing; `pauses`: how
    often in a row it was paused because no login lasted; `opened_at`: monotonic seconds. `opening`: the number of its
    latest opening; events of an earlier one are ignored. `changing`: held while the device is opened or closed, so that
    pending work of an earlier state does not affect a new pairing.
    """

    number: Number
    state: NumberState = "disconnected"
    reason: Reason = NOTHING
    pairing: PairingProgress | None = None
    reopening: asyncio.TimerHandle | None = None
    leaving: bool = False
    failing: bool = False
    jid: str = ""
    heard_at: float | None = None
    round_trip: float | None = None
    pauses: int = 0
    opened_at: float = 0.0
    opening: int = 0
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def running_pairing(self) -> PairingProgress | None:
        """The pairing, while it may still succeed."""
        return self.pairing if self.pairing is not None and self.pairing.running else None
