"""What happens to a message that may have left: evidence decides, then the account's setting. Pure.

| the channel's evidence | the message |
| --- | --- |
| NeverLeft | queued again by the retry table; the attempt stays counted |
| Unknown | `unconfirmed`, with the id it would have left under, so that a receipt of that id settles it |

| the account's setting | an unconfirmed message without a receipt |
| --- | --- |
| `hold` | stays unconfirmed until a receipt comes or a person decides |
| `resend` | is queued again after the channel's timeout, while tries and time are left; else it is held |
| an OTP, under either | is queued again after a short timeout while its code is valid: a second copy does no harm |

The timeout runs only while receipts can come: a device that is not connected gets none.
"""

from __future__ import annotations

from typing import assert_never

from kurir.messages.channel_reports import Evidence, InDoubt, NeverLeft, Outcome, TryLater, Unknown
from kurir.reasons import messages as reasons

CUT_OFF = InDoubt(reasons.CUT_OFF())
"""The outcome of a message that a gateway, or a lane, left in flight."""

_OTP_TIMEOUT = 5.0
"""Seconds: most receipts come sooner, and a code that comes late is worth nothing."""


def explained(doubt: InDoubt, evidence: Evidence) -> Outcome:
    """The outcome of a try that ended in doubt, once the channel has been asked for evidence."""
    match evidence:
        case NeverLeft():
            return TryLater("never_left", doubt.reason)
        case Unknown(remote_id):
            return InDoubt(doubt.reason, remote_id or doubt.remote_id)
        case _:
            assert_never(evidence)


def may_resend(setting: str, origin: str) -> bool:
    """Whether an unconfirmed message of this `origin` may go out once more under the account's setting."""
    return setting == "resend" or origin == "otp"


def timeout(origin: str, of_channel: float) -> float:
    """Seconds to wait for a receipt before an unconfirmed message goes out once more."""
    return min(_OTP_TIMEOUT, of_channel) if origin == "otp" else of_channel


def resend_now(setting: str, origin: str, *, attempts: int, max_attempts: int, now: float, expires_at: float) -> bool:
    """Whether a message whose timeout is over is sent once more (True) or held (False)."""
    return may_resend(setting, origin) and attempts < max_attempts and now < expires_at
