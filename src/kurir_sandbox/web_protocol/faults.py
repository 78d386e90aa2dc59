"""What this wire should do wrong on demand. Everything is off unless a test or a person asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Faults:
    """Switches of one wire.

    `login_failure`: attributes of the `<failure>` that logins get, e.g. {"reason": "503"}; None lets them in.
    `withhold_acks`: messages of linked devices reach the phones, but the server never says so.
    `withhold_receipts`: the phones' delivery and read receipts are not passed on.
    """

    login_failure: dict[str, str] | None = None
    withhold_acks: bool = False
    withhold_receipts: bool = False
    refuse_messages: dict[str, str] = field(default_factory=dict[str, str])


def refusal_for(faults: Faults, phone: str) -> str | None:
    """The error code that messages of the account `phone` are refused with, None if they aren't."""
    return faults.refuse_messages.get(phone)
