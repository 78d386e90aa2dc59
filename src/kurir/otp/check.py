"""Taking a one-time password back: a code is right once, and wrong ones are counted."""

from __future__ import annotations

import math
from functools import partial

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy import Connection

from kurir.foundation.database import Database
from kurir.foundation.sealing import Sealing
from kurir.foundation.tables import otp_failures, otps
from kurir.otp import rules

_log = structlog.get_logger(__name__)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A code as somebody typed it, narrowed to one request or one phone number (digits) where the caller knows it."""

    account_id: int
    code: str
    request_id: str = ""
    phone: str = ""

    def __repr__(self) -> str:
        return f"Attempt(account_id={self.account_id})"


class Verdict(msgspec.Struct, frozen=True):
    """The answer to an attempt. `retry_after` (whole seconds) is set exactly when it was refused unseen."""

    valid: bool
    retry_after: int | None = None


async def check(database: Database, sealing: Sealing, attempt: Attempt, now: float, digits: int = 6) -> Verdict:
    """Whether the attempt names an open code of the account; `digits` is the length of the codes now being sent.

    A right code is used up durably before this returns. Wrong, expired, used, dead and unknown codes are not told
    apart. `now` in unix seconds. Raises DatabaseUnavailable.
    """
    narrowing = []
    if attempt.request_id:
        wanted = rules.request_hash(sealing, attempt.account_id, attempt.request_id)
        narrowing.append(otps.c.request_hash == wanted)
    if attempt.phone:
        narrowing.append(otps.c.phone == attempt.phone)
    code_hash = rules.code_hash(sealing, attempt.account_id, attempt.code)
    decide = partial(_narrowed, narrowing=narrowing) if narrowing else partial(_any, digits=digits)
    return await database.write(lambda connection: decide(connection, attempt.account_id, code_hash, now))


def close_open_codes(connection: Connection, now: float) -> None:
    """Ends every account's open codes: for a database that was put back, in which used ones are open again."""
    connection.execute(sa.update(otps).where(otps.c.used_at.is_(None), otps.c.expires_at > now).values(expires_at=now))


def _narrowed(
    connection: Connection, account_id: int, code_hash: str, now: float, *, narrowing: list[sa.ColumnElement[bool]]
) -> Verdict:
    if _use(connection, account_id, code_hash, now, narrowing):
        return Verdict(True)
    connection.execute(
        otps.update().where(*rules.open_codes(account_id, now), *narrowing).values(wrong_tries=otps.c.wrong_tries + 1)
    )
    return Verdict(False)


def _any(connection: Connection, account_id: int, code_hash: str, now: float, *, digits: int) -> Verdict:
    wait = _wait(connection, account_id, digits, now)
    if wait > 0:
        return Verdict(False, math.ceil(wait))
    if _use(connection, account_id, code_hash, now, []):
        return Verdict(True)
    connection.execute(otp_failures.insert().values(account_id=account_id, at=now))
    if _wait(connection, account_id, digits, now) > 0:
        _log.warning("otp_checks_paused", account_id=account_id)
    return Verdict(False)


def _use(
    connection: Connection, account_id: int, code_hash: str, now: float, narrowing: list[sa.ColumnElement[bool]]
) -> bool:
    used = connection.execute(
        otps.update()
        .where(*rules.open_codes(account_id, now), otps.c.code_hash == code_hash, *narrowing)
        .values(used_at=now)
    )
    return used.rowcount > 0


def _wait(connection: Connection, account_id: int, digits: int, now: float) -> float:
    """Seconds until an attempt that is not narrowed is looked at again; 0 when it is looked at now."""
    mine = otp_failures.c.account_id == account_id
    latest = connection.scalar(sa.select(sa.func.max(otp_failures.c.at)).where(mine))
    if latest is None:
        return 0.0
    failures = connection.scalar(
        sa.select(sa.func.count())
        .select_from(otp_failures)
        .where(mine, otp_failures.c.at > latest - rules.BUDGET_WINDOW)
    )
    open_now = connection.scalar(sa.select(sa.func.count()).select_from(otps).where(*rules.open_codes(account_id, now)))
    budget = rules.failure_budget(open_now or 0, digits)
    return max(
        rules.pause_left(now=now, latest=latest, failures=failures or 0, budget=budget),
        _hard_stop_left(connection, account_id, latest, now),
    )


def _hard_stop_left(connection: Connection, account_id: int, latest: float, now: float) -> float:
    mine = otp_failures.c.account_id == account_id
    since = connection.scalar(
        sa.select(otp_failures.c.at)
        .where(mine)
        .order_by(otp_failures.c.at.desc())
        .offset(rules.CONSECUTIVE - 1)
        .limit(1)
    )
    if since is None:
        return 0.0
    # a code that was used after `since` also expires after it, which is what the index knows
    right_since = sa.select(otps.c.id).where(
        otps.c.account_id == account_id, otps.c.expires_at > since, otps.c.used_at > since
    )
    if connection.execute(right_since.limit(1)).first():
        return 0.0
    if now >= latest + rules.HARD_STOP:
        connection.execute(otp_failures.delete().where(mine))
        return 0.0
    return latest + rules.HARD_STOP - now
