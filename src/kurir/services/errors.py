"""The errors of services. Each interface maps them in one place.

`DeviceUnavailable`, `DatabaseUnavailable` and `BadValue` pass through the services as they are.
"""

from __future__ import annotations

from kurir.reasons import Reason, ReasonedError


class ServiceError(ReasonedError):
    """A refusal: its reason, and the field it is about ("" when it is about none)."""

    def __init__(self, field: str, reason: Reason) -> None:
        super().__init__(reason)
        self.field = field


class NotFound(ServiceError):  # noqa: N818 - a state of the world, not a mistake
    """The account has no such thing; another account's counts as none."""


class NotPossible(ServiceError):  # noqa: N818 - a state of the world, not a mistake
    """It is impossible in the present state; the reason says why."""

    def __init__(self, reason: Reason, field: str = "") -> None:
        super().__init__(field, reason)


class Invalid(ServiceError):  # noqa: N818 - an attribute of a value
    """A value is not what is expected; the reason says what is."""
