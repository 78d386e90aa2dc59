"""What a handler needs, in one value: the services, the settings, the metrics. Built by `kurir.app`."""

from __future__ import annotations

from dataclasses import dataclass

from kurir.kit.clock import Clock
from kurir.kit.metrics import Metrics
from kurir.services.services import Services
from kurir.settings import Settings


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway. Handlers read it and never change it."""

    settings: Settings
    clock: Clock
    metrics: Metrics
    services: Services
