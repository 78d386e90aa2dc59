"""A refusal of the operator API."""

from __future__ import annotations

from kurir.reasons import Reason, ReasonedError


class ApiError(ReasonedError):
    """A refusal: HTTP status, a stable word, a reason, and the field it is about."""

    def __init__(self, status: int, code: str, reason: Reason, field: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.code = code
        self.field = field
