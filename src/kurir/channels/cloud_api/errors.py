"""Error codes of the Graph API: what each means for a message, as one table. Pure.

Source: Meta, "Error codes" of the Cloud API (`support/error-codes`). Meta's advice is to branch on `code`, never on the
text. An answer with an error means that the message did not leave, so the only question is whether a retry can help.
"""

from __future__ import annotations

from typing import Any

from kurir.kit.json_values import JsonValue
from kurir.messages import bounds
from kurir.messages.channel_reports import Halted, Refused, TryLater
from kurir.reasons import Code, Reason, as_written
from kurir.reasons import messages as reasons

_HOUR = 3600.0

LATER: dict[int, float | None] = {
    1: None,  # unknown error, "possibly temporary"
    2: None,  # service down or overloaded
    4: None,  # the app's call budget
    80007: None,  # the business account's call budget
    130429: None,  # throughput of the number
    131000: None,  # something went wrong
    131016: None,  # service unavailable
    131056: None,  # pair rate: too many to this one person
    131057: None,  # the number is in maintenance, for example while its throughput is raised
    132069: None,  # flow throttled
    134101: None,  # the template is still being copied to the senders
    133016: 72 * _HOUR,  # too many registrations of the number
}
"""Codes after which the same message may be sent later → minimum seconds to wait where the code implies a time."""

REFUSED: frozenset[int] = frozenset(
    {
        *(33, 100, 130472, 130497, 131005, 131008, 131009, 131021, 131026, 131030, 131037, 131042, 131044, 131045),
        *(131047, 131049, 131050, 131051, 131052, 131053, 131062, 131063, 132000, 132001, 132005, 132007, 132008),
        *(132012, 132015, 132016, 132018, 132068, 135000, 137000),
    }
)
"""Codes for which no retry of the same message can help."""

TOKEN: frozenset[int] = frozenset({0, 3, 10, 190, *range(200, 300)})
"""Codes about the access token or its permissions: the number pauses until a person replaces the token."""

BLOCKED: dict[int, Code] = {
    131048: reasons.QUALITY_ADVICE,  # spam rate limit: the quality must recover
    131064: reasons.ACCOUNT_QUALITY_ADVICE,  # limit after template category violations
    368: reasons.POLICY_ADVICE,  # blocked for a time by policy
    131031: reasons.ACCOUNT_ADVICE,  # account locked or disabled
}
"""Codes that apply to all messages of the number, or would get worse by retries → what a person can do.

131049 (marketing to one person) and 130497 (people of one country) concern single messages: those are refused.
"""


def outcome_of(status: int, error: dict[str, Any], retry_after: float | None = None) -> Refused | TryLater | Halted:
    """The outcome of a message refused with a Graph error.

    status: the HTTP status; error: the `error` object; retry_after: the header in seconds, which takes precedence over
    the table. An unknown code counts as permanent unless the status is 5xx or the error is marked as transient.
    """
    code = code_of(error)
    reason = reason_of(error)
    if (advice := halts(code)) is not None:
        return Halted(str(code), reasons.HALTED(reason=reason, code=code, advice=advice))
    if code in LATER:
        return TryLater(str(code), reason, retry_after if retry_after is not None else LATER[code])
    if code not in REFUSED and (status >= 500 or status == 429 or error.get("is_transient") is True):
        return TryLater(str(code), reason, retry_after)
    return Refused(str(code), reason)


def halts(code: int) -> Reason | None:
    """What a person has to do before the number can send again; None when the code does not require anybody."""
    if code in TOKEN:
        return reasons.TOKEN_ADVICE()
    if code in BLOCKED:
        return BLOCKED[code]()
    return None


def code_of(error: dict[str, Any]) -> int:
    """The error's `code`, or -1 when it has no valid one."""
    code = bounds.number(error.get("code"))
    return -1 if code is None else code


def reason_of(error: dict[str, Any]) -> Reason:
    """Meta's own words: the details where it gives any, after the title without its `(#code)`."""
    message = _words(error.get("message")) or _words(error.get("title"))
    if not message:
        return reasons.META_GAVE_NO_REASON()
    if message.startswith("(#") and ") " in message:
        message = message.split(") ", 1)[1]
    data: JsonValue = error.get("error_data")
    details = _words(data.get("details")) if isinstance(data, dict) else ""
    if details and details != message:
        message = bounds.text(f"{message}: {details}", bounds.REASON)
    return as_written(message)


def _words(value: object) -> str:
    return bounds.text(value, bounds.REASON) if isinstance(value, str) else ""
