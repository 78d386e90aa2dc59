"""What this wire should do wrong on demand. Everything is off unless a test or a person asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Faults:
    """Switches of one wire.

    `login_failure`: attributes of the `<failure>` that logins get, e.g. {"reason": "503"}; None lets them in.
    `withhold_acks`: messages of linked devices reach the phones, but the server never says so.
    `withhold_receipts`: the phones' delivery and read receipts are not passed on.
    `refuse_messages`: by phone of the sending account, the error code its messages are refused with.
    `refused_logins` counts how often `login_failure` was answered.
    """

    login_failure: dict[str, str] | None = None
    withhold_acks: bool = False
    withhold_receipts: bool = False
    refused_logins: int = 0
    refuse_messages: dict[str, str] = field(default_factory=dict[str, str])
