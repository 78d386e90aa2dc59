"""Moments that tests wait for instead of sleeping. Nothing happens at them in production."""

from __future__ import annotations

from typing import Literal

Moment = Literal["lane_turned", "maintained"]
"""A lane has checked its queue · a round of maintenance is over."""


class TestSignals:
    """Emits nothing; the tests' own class lets them wait for each moment. Called on the event loop only."""

    __test__ = False

    def emit(self, moment: Moment) -> None:
        """A step is over."""
