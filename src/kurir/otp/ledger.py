"""The account's ledger of checks: how many were wrong in each minute, and what chance they were to a guesser.

A row for each account, scope, length, minute and process. Rows only ever grow by one upsert, so parallel checks lose
nothing; each process adds to rows of its own, so gateways on one PostgreSQL do not wait for each other's commits. What
another gateway has not committed yet is not seen: together they may overshoot a limit by what they have in flight.
"""

from __future__ import annotations

import secrets

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.otp.budget import HOUR, MINUTE, WRONG_TRIES, Scope, Wrong
from kurir.otp.tables import otp_checks as table
from kurir.store.inserts import insert_into

_PROCESS = secrets.randbelow(2**31)
_KEYS = (table.c.account_id, table.c.scope, table.c.digits, table.c.minute, table.c.process)
_NOTIFIED = "notified"
"""Scope of the row that says that the owner was notified in that hour."""
_OPEN = "open"

_OF_HOUR = sa.text("""
SELECT scope, digits, sum(wrong) AS in_hour,
    sum(CASE WHEN scope = 'notified' THEN (CASE WHEN minute = :hour THEN 1 ELSE 0 END)
        WHEN minute >= :lately THEN wrong ELSE 0 END) AS lately,
    sum(chance) AS chance
FROM otp_checks WHERE account_id = :account AND minute >= :minute GROUP BY scope, digits
UNION ALL
SELECT 'open', digits, count(*), 0, 0 FROM otps
WHERE account_id = :account AND expires_at > :now AND used_at IS NULL AND wrong_tries < :tries GROUP BY digits
""")
_ADD = sa.text("""
INSERT INTO otp_checks (account_id, scope, digits, minute, process, wrong, chance)
VALUES (:account, :scope, :digits, :minute, :process, :wrong, :chance)
ON CONFLICT (account_id, scope, digits, minute, process)
DO UPDATE SET wrong = otp_checks.wrong + excluded.wrong, chance = otp_checks.chance + excluded.chance
""")


class Page(msgspec.Struct, frozen=True):
    """An account's last hour: wrong checks by scope, open codes by their length, whether the owner was notified."""

    wrong: dict[Scope, Wrong]
    open_codes: dict[int, int]
    notified: bool


def minute_of(now: float) -> int:
    """The minute that a check at `now` (unix seconds) is counted in."""
    return int(now // MINUTE)


def add(
    connection: Connection, account_id: int, scope: Scope, digits: int, now: float, *, wrong: int, chance: float
) -> None:
    """Counts one check: `wrong` is 1 or 0, `chance` what it was worth to a guesser."""
    row = {"account": account_id, "scope": scope, "digits": digits, "minute": minute_of(now), "process": _PROCESS}
    connection.execute(_ADD, {**row, "wrong": wrong, "chance": chance})


def of_hour(connection: Connection, account_id: int, now: float) -> Page:
    """What was checked in the last hour (and up to a minute more), and the codes that are open."""
    minute = minute_of(now)
    since = {"minute": minute - int(HOUR // MINUTE), "lately": minute - 1, "hour": _hour_of(now)}
    rows = connection.execute(_OF_HOUR, {"account": account_id, "now": now, "tries": WRONG_TRIES, **since}).all()
    wrong: dict[Scope, Wrong] = {}
    open_codes: dict[int, int] = {}
    notified = False
    for scope, digits, hour, recent, chance in rows:
        if scope == _OPEN:
            open_codes[digits] = int(hour)
        elif scope == _NOTIFIED:
            notified = recent > 0
        else:
            known = wrong.get(scope, Wrong())
            spent = {**known.spent, digits: float(chance)}
            wrong[scope] = Wrong(spent, known.hour + int(hour), known.recent + int(recent))
    return Page(wrong, open_codes, notified)


def checks_without_scope(connection: Connection, account_id: int) -> bool:
    """Whether the account may check codes without scope: unless all that the ledger remembers (a day) had one."""
    row = sa.select(table.c.minute).where(table.c.account_id == account_id)
    if connection.execute(row.where(table.c.scope == "account").limit(1)).first():
        return True
    return connection.execute(row.where(table.c.scope != _NOTIFIED).limit(1)).first() is None


def first_notice(connection: Connection, account_id: int, now: float) -> bool:
    """Whether nobody was notified of guessing in this hour yet; of many calls at once, one gets True."""
    row = insert_into(connection, table).values(
        account_id=account_id, scope=_NOTIFIED, digits=0, minute=_hour_of(now), process=0
    )
    added = row.on_conflict_do_nothing(index_elements=_KEYS).returning(table.c.minute)
    return connection.execute(added).first() is not None


def _hour_of(now: float) -> int:
    """The first minute of the hour."""
    return minute_of(now // HOUR * HOUR)
