"""Time as an argument: everything that asks for the time asks a `Clock`, so that tests can drive it."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Gives the time in unix seconds."""

system_clock: Clock = time.time
