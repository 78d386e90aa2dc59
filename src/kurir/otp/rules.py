"""The rules of one-time passwords, pure: lifetimes, codes, how often they may be sent, and what the person reads."""

from __future__ import annotations

import secrets

import msgspec
import sqlalchemy as sa

from kurir.accounts.accounts import Account
from kurir.kit.sealing import Sealing
from kurir.otp.budget import WRONG_TRIES
from kurir.otp.tables import otps

LIFETIME_DEFAULT = 60
LIFETIME_LEAST = 30
LIFETIME_MOST = 3600
"""Seconds a code may live (wire contract, send_otp)."""
SEND_WINDOW = 600.0
"""Seconds in which `otp_sends_per_phone` codes may go to one phone number."""


class OtpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks for: a code of `lifetime` seconds to `phone` (digits) from a sender number of the account."""

    account: Account
    number_id: int
    phone: str
    lifetime: int = LIFETIME_DEFAULT
    customer_name: str = ""
    service_name: str = ""
    company_name: str = ""


def clamp_lifetime(seconds: float) -> int:
    """The lifetime a code gets for the one that was asked for."""
    return int(min(max(seconds, LIFETIME_LEAST), LIFETIME_MOST))


def draw_code(digits: int) -> str:
    """A random code; leading zeros are part of it."""
    return f"{secrets.randbelow(10**digits):0{digits}d}"


def send_wait(*, now: float, sent: list[float], limit: int, min_interval: float) -> float:
    """Seconds until another code may go to a phone number that was sent codes at the times `sent` (latest first)."""
    if limit < 1:
        return SEND_WINDOW
    waits = [sent[0] + min_interval - now] if sent else []
    if len(sent) >= limit:
        waits.append(sent[limit - 1] + SEND_WINDOW - now)
    return max(waits, default=0.0)


def message_text(request: OtpRequest, code: str) -> str:
    """The text of the message, in the account's language, with the names that the caller gave."""
    customer, service, company = (
        " ".join(name.split()) for name in (request.customer_name, request.service_name, request.company_name)
    )
    lifetime = humanised(request.lifetime, request.account.language)
    if request.account.language == "en":
        lines = [
            f"Hello {customer}," if customer else "Hello,",
            f"*{code}* is your {service + ' ' if service else ''}OTP code. It is valid for {lifetime}.",
            "Do not share this code with anyone.",
        ]
    else:
        lines = [
            f"Halo {customer}," if customer else "Halo,",
            f"*{code}* adalah kode OTP {service + ' ' if service else ''}Anda. Berlaku selama {lifetime}.",
            "Jangan berikan kode ini kepada siapa pun.",
        ]
    return "\n".join([*lines, "", company] if company else lines)


def humanised(seconds: int, language: str) -> str:
    """A time span in words: `1 menit 30 detik`, `2 minutes`."""
    words = ("hour", "minute", "second") if language == "en" else ("jam", "menit", "detik")
    hours, rest = divmod(seconds, 3600)
    parts = [(count, word) for count, word in zip((hours, *divmod(rest, 60)), words, strict=True) if count]
    return " ".join(f"{count} {word}{'s' if language == 'en' and count > 1 else ''}" for count, word in parts)


def open_codes(account_id: int, now: float) -> list[sa.ColumnElement[bool]]:
    """The condition for a stored code that can be used: not used, not expired, not dead."""
    return [
        otps.c.account_id == account_id,
        otps.c.used_at.is_(None),
        otps.c.expires_at > now,
        otps.c.wrong_tries < WRONG_TRIES,
    ]


def code_hash(sealing: Sealing, account_id: int, code: str) -> str:
    """The form in which a code is stored; the same code looks different in another account."""
    return sealing.hash(code, f"otp_code:{account_id}")


def request_hash(sealing: Sealing, account_id: int, request_id: str) -> str:
    """The form in which a request id is stored."""
    return sealing.hash(request_id, f"otp_request:{account_id}")
