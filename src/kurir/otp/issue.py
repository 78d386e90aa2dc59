"""Sends a one-time password: stores the code and its message in one durable transaction.

Gateways on one PostgreSQL send to one phone number one after the other (`claims`), so that its limits are kept by all
of them together; two codes that are open at the same time differ for the same reason.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from functools import partial
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy import Connection

from kurir.kit.sealing import Sealing
from kurir.messages.content import Text
from kurir.otp import budget, ledger, rules
from kurir.otp.budget import Lengths
from kurir.otp.tables import otps
from kurir.outbox.idempotency import Once
from kurir.outbox.message_rows import PRIORITY_OTP
from kurir.outbox.outbox import Draft, Outbox
from kurir.settings import Settings
from kurir.store.name_locks import claim

CODE, REQUEST_ID = "otp_code", "req_id"
"""Keys of what is stored of a request for a code besides its message."""

_DRAWS = 16
_PAUSE = 0.03
"""Seconds: about what another gateway takes to commit."""

_log = structlog.get_logger(__name__)


class SendLimited(Exception):  # noqa: N818 - a state of the world, not a mistake
    """No further code may be sent now; nothing was stored. `retry_after` in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many codes; try again in {retry_after} s")
        self.retry_after = retry_after


class Issued(msgspec.Struct, frozen=True):
    """A stored code that is being sent. The only place besides the message where it can be read."""

    code: str
    request_id: str
    message_id: int

    def __repr__(self) -> str:
        return f"Issued(message_id={self.message_id})"


class _CodeTaken(Exception):  # noqa: N818 - a state of the world, not a mistake
    """The drawn code is open already; draw again."""


class _PhoneTaken(Exception):  # noqa: N818 - a state of the world, not a mistake
    """Another gateway stores a code for this phone number at this moment; retry when it has."""


class _TooShort(Exception):  # noqa: N818 - a state of the world, not a mistake
    """Codes have to be longer now: draw one of `digits` digits."""

    def __init__(self, digits: int) -> None:
        super().__init__(f"codes of {digits} digits are needed")
        self.digits = digits


async def issue(
    outbox: Outbox,
    sealing: Sealing,
    settings: Settings,
    request: rules.OtpRequest,
    now: float,
    *,
    once: Once | None = None,
) -> Issued:
    """Draws a code and puts it into the outbox, ahead of everything that is not an OTP.

    `now` in unix seconds; with `once` the request is remembered together with its code. Raises SendLimited, and what
    the outbox raises (QueueFull, DatabaseUnavailable, Repeated); then nothing was stored.
    """
    account_id = request.account.id
    digits = settings.otp_digits
    taken = False
    for _ in range(_DRAWS):
        code = rules.draw_code(digits)
        request_id = secrets.token_urlsafe(32)
        draft = Draft(
            account_id=account_id,
            number_id=request.number_id,
            recipient=request.phone,
            content=Text(rules.message_text(request, code)),
            priority=PRIORITY_OTP,
            origin="otp",
            lifetime=float(request.lifetime),
            sealed=True,
        )
        row = {
            "account_id": account_id,
            "code_hash": rules.code_hash(sealing, account_id, code),
            "request_hash": rules.request_hash(sealing, account_id, request_id),
            "phone": request.phone,
            "created_at": now,
            "expires_at": now + request.lifetime,
            "digits": digits,
        }
        taken = False
        try:
            accepted = await outbox.accept(
                [draft],
                also=partial(_store, settings, row),
                once=once,
                facts={CODE: code, REQUEST_ID: request_id},
            )
        except _CodeTaken:
            continue
        except _TooShort as short:
            digits = short.digits
            continue
        except _PhoneTaken:
            taken = True
            await asyncio.sleep(_PAUSE)
            continue
        return Issued(code, request_id, accepted.ids[0])
    if taken:
        raise SendLimited(1)
    # hardly a code of the greatest length is free any more, and guessing must not get easier meanwhile
    _log.warning("otp_codes_crowded", account_id=account_id, digits=digits)
    raise SendLimited(rules.LIFETIME_DEFAULT)


def _store(settings: Settings, row: dict[str, Any], connection: Connection, message_ids: list[int]) -> None:
    account_id, phone, now = row["account_id"], row["phone"], row["created_at"]
    phone_is_ours, code_is_ours = claim(
        connection, [f"otp phone {account_id} {phone}", f"otp code {account_id} {row['code_hash']}"]
    )
    if not phone_is_ours:
        raise _PhoneTaken
    window = max(rules.SEND_WINDOW, settings.otp_min_interval)
    sent = connection.scalars(
        sa.select(otps.c.created_at)
        .where(otps.c.account_id == account_id, otps.c.phone == phone, otps.c.created_at > now - window)
        .order_by(otps.c.created_at.desc())
    ).all()
    wait = rules.send_wait(
        now=now, sent=list(sent), limit=settings.otp_sends_per_phone, min_interval=settings.otp_min_interval
    )
    if wait > 0:
        raise SendLimited(math.ceil(wait))
    digits = _digits(connection, settings, account_id, phone, now)
    if row["digits"] < digits:
        raise _TooShort(digits)
    same = sa.select(otps.c.id).where(*rules.open_codes(account_id, now), otps.c.code_hash == row["code_hash"])
    if not code_is_ours or connection.execute(same.limit(1)).first():
        raise _CodeTaken
    connection.execute(otps.insert().values(**row, message_id=message_ids[0]))


def _digits(connection: Connection, settings: Settings, account_id: int, phone: str, now: float) -> int:
    """The least length that the account's next code may have."""
    since = now - 2 * budget.HOUR
    mine = otps.c.account_id == account_id
    recent = sa.select(sa.func.count()).where(mine, otps.c.expires_at > since, otps.c.created_at > since)
    page = ledger.of_hour(connection, account_id, now)
    missed = sa.select(sa.func.coalesce(sa.func.max(otps.c.wrong_by_phone), 0)).where(
        mine, otps.c.phone == phone, otps.c.created_at > now - budget.HOUR
    )
    return budget.digits_for(
        Lengths(settings.otp_digits, max(settings.otp_digits, settings.otp_digits_most)),
        page.wrong,
        open_codes=sum(page.open_codes.values()),
        recent_codes=connection.execute(recent).scalar_one(),
        wrong_at_phone=connection.execute(missed).scalar_one(),
        unscoped=ledger.checks_without_scope(connection, account_id),
    )
