"""Intervals between the polls and retries of a gateway's parts, set by the composition root."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds. Production takes the defaults; tests shorten what they would have to wait for."""

    sweep: float = 5.0
    """Between two polls of every number by the dispatcher, for lost notifications."""
    after_failure: float = 1.0
    """Until a lane or the inbox retries after a database error or another failure."""
    lane_idle: float = 25.0
    """From the last message of a number to the end of its lane: to begin one costs more than to keep one."""
    before_maintenance: float = 0.0
    """From the start until the first round of maintenance."""


PAUSES = Pauses()
