"""The base of errors that have a reason."""

from __future__ import annotations

from kurir.reasons.reason import Reason
from kurir.reasons.table import sentence


class ReasonedError(Exception):
    """An error with a reason; its text, for logs, is the reason's English sentence."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(sentence(reason, "en"))
        self.reason = reason
