"""How long the parts of a gateway rest by themselves: one value, given to them by the composition root."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds. Production takes the defaults; tests shorten what they would have to wait for."""

    sweep: float = 5.0
    """Between two looks of the dispatcher at every number, for which no notification came."""
    after_failure: float = 1.0
    """Until a lane or the inbox tries again what the database refused or what broke."""
    before_maintenance: float = 0.0
    """From the start until the first round of maintenance."""


PAUSES = Pauses()
