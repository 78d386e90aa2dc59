"""Checks one-time passwords: a code is right once, and wrong checks are counted against the account's limits.

A check with a request id is compared with that request's code, one with a phone number with that number's codes, any
other with the account's youngest codes (all of them unless somebody is guessing). See `budget` for the limits.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy import Connection

from kurir.events.append import append
from kurir.events.bodies import OtpGuessing
from kurir.kit.sealing import Sealing
from kurir.numbers import numbers
from kurir.otp import budget, ledger, rules
from kurir.otp.budget import Lengths, Scope, Wrong
from kurir.otp.tables import otps
from kurir.outbox.tables import messages
from kurir.store.database import Database

_log = structlog.get_logger(__name__)

_LENGTH_MOST = 10
_FIELDS: dict[Scope, str] = {"request": "req_id", "phone": "phone_no", "account": "otp_code"}
_RETRY_AFTER = int(budget.MINUTE)
"""Seconds: limits change by the minute, and a new code is longer and works at once."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A code as somebody typed it, narrowed to one request or one phone number (digits) where the caller knows it.

    `unpadded`: the code came as a number, so its leading zeros may be missing.
    """

    account_id: int
    code: str
    request_id: str = ""
    phone: str = ""
    unpadded: bool = False

    def __repr__(self) -> str:
        return f"Attempt(account_id={self.account_id})"

    def codes(self, lengths: Lengths) -> dict[int, str]:
        """The codes that this may mean, by their length; length 0 means that it is no code."""
        plain = self.code.isascii() and self.code.isdigit()
        if not plain or len(self.code) > _LENGTH_MOST:
            return {0: self.code}
        if not self.unpadded:
            return {len(self.code): self.code}
        return {n: self.code.zfill(n) for n in range(max(len(self.code), lengths.least), lengths.most + 1)}

    @property
    def scope(self) -> Scope:
        """What the attempt is compared with."""
        return "request" if self.request_id else "phone" if self.phone else "account"


class CheckResult(msgspec.Struct, frozen=True):
    """The answer to an attempt. `retry_after` (whole seconds) is set when it was not compared with every code that it
    could have meant; `any_open` says whether there was an open code that it could have meant: for counting, never for
    callers."""

    valid: bool
    retry_after: int | None = None
    any_open: bool = True


class _Checked(msgspec.Struct, frozen=True):
    """The result of a transaction: the check's result, and whether guessing is suspected."""

    result: CheckResult
    guessing: bool = False


async def check(
    database: Database, sealing: Sealing, attempt: Attempt, now: float, digits: int, *, digits_most: int
) -> CheckResult:
    """Whether the attempt names an open code of the account; `digits` and `digits_most` are the lengths codes may have.

    A right code is used up durably before this returns. Wrong, expired, used, dead and unknown codes get the same
    result. `now` in unix seconds. Raises DatabaseUnavailable.
    """
    checking = _Checking(sealing, attempt, now, Lengths(digits, max(digits, digits_most)))
    checked = await database.write(checking.run)
    if checked.guessing:
        _log.warning("otp_guessing_suspected", account_id=attempt.account_id, scope=attempt.scope)
    return checked.result


def close_open_codes(connection: Connection, now: float) -> None:
    """Ends every account's open codes: for a restored database, in which used ones are open again."""
    connection.execute(sa.update(otps).where(otps.c.used_at.is_(None), otps.c.expires_at > now).values(expires_at=now))


class _Checking:
    """One attempt, within one transaction."""

    def __init__(self, sealing: Sealing, attempt: Attempt, now: float, lengths: Lengths) -> None:
        self._attempt = attempt
        self._now = now
        self._lengths = lengths
        self._codes = attempt.codes(lengths)
        account_id = attempt.account_id
        self._hashes = {n: rules.code_hash(sealing, account_id, code) for n, code in self._codes.items()}
        self._open = rules.open_codes(account_id, now)
        self._narrowing: list[sa.ColumnElement[bool]] = []
        if attempt.request_id:
            wanted = rules.request_hash(sealing, account_id, attempt.request_id)
            self._narrowing.append(otps.c.request_hash == wanted)
        if attempt.phone:
            self._narrowing.append(otps.c.phone == attempt.phone)

    def run(self, connection: Connection) -> _Checked:
        """Compares, uses up or counts. Changes nothing but the database."""
        page = ledger.of_hour(connection, self._attempt.account_id, self._now)
        mine = page.wrong.get(self._attempt.scope, Wrong())
        match self._attempt.scope:
            case "request":
                result = self._of_request(connection, mine)
            case "phone":
                result = self._of_phone(connection, mine)
            case "account":
                result = self._of_account(connection, mine, page.open_codes)
        guessing = not result.valid and mine.suspicious and not page.notified and self._notify(connection, mine)
        return _Checked(result, guessing)

    def _of_request(self, connection: Connection, wrong: Wrong) -> CheckResult:
        any_open = False
        left = budget.REQUEST - sum(wrong.spent.values())
        for length, code_hash in self._hashes.items():
            takes = [*self._narrowing]
            if _cost(1, length) > left:
                takes.append(otps.c.wrong_tries == 0)  # the first try is always free
            if self._use(connection, code_hash, takes):
                self._add(connection, length, 0.0, wrong=0)
                return CheckResult(True)
            if found := self._count(connection, [*takes, otps.c.digits == length]):
                self._add(connection, length, _cost(found, length))
                any_open = True
        self._miss(connection, otps.c.wrong_tries)
        return CheckResult(False, any_open=any_open)

    def _of_phone(self, connection: Connection, wrong: Wrong) -> CheckResult:
        left = budget.PHONE - sum(wrong.spent.values())
        refused = any_open = False
        for length, code_hash in self._hashes.items():
            takes = [*self._narrowing, otps.c.wrong_by_phone < budget.phone_tries(length)]
            found = self._count(connection, [*takes, otps.c.digits == length])
            any_open = any_open or found > 0
            if found and _cost(found, length) > left:
                refused = True
                continue
            if self._use(connection, code_hash, takes):
                self._add(connection, length, 0.0, wrong=0)
                return CheckResult(True)
            if found:
                self._add(connection, length, _cost(found, length))
        self._miss(connection, otps.c.wrong_by_phone)
        return CheckResult(False, _RETRY_AFTER if refused else None, any_open)

    def _of_account(self, connection: Connection, wrong: Wrong, open_codes: dict[int, int]) -> CheckResult:
        refused = any_open = False
        for length, code_hash in self._hashes.items():
            takes: list[sa.ColumnElement[bool]] = []
            found = open_codes.get(length, 0)
            any_open = any_open or found > 0
            most = budget.compared(budget.room(wrong.spent, length, self._lengths), length, wrong.recent)
            if found > most:
                refused = True
                beyond = self._beyond(connection, length, most)
                takes += [otps.c.id > beyond] if beyond is not None else []
            if self._use(connection, code_hash, takes):
                self._add(connection, length, 0.0, wrong=0)
                return CheckResult(True)
            self._add(connection, length, _cost(min(found, most), length))
        return CheckResult(False, _RETRY_AFTER if refused else None, any_open)

    def _use(self, connection: Connection, code_hash: str, takes: list[sa.ColumnElement[bool]]) -> bool:
        used = connection.execute(
            otps.update().where(*self._open, otps.c.code_hash == code_hash, *takes).values(used_at=self._now)
        )
        return used.rowcount > 0

    def _count(self, connection: Connection, takes: list[sa.ColumnElement[bool]]) -> int:
        found = sa.select(sa.func.count()).select_from(otps).where(*self._open, *takes)
        return connection.execute(found).scalar_one()

    def _beyond(self, connection: Connection, length: int, most: int) -> int | None:
        """The id of the youngest code that is not among the `most` youngest of that length.

        None when there are no more: another gateway may have used one up since they were counted.
        """
        rows = sa.select(otps.c.id).where(*self._open, otps.c.digits == length).order_by(otps.c.id.desc())
        return connection.execute(rows.offset(most).limit(1)).scalar()

    def _miss(self, connection: Connection, tries: sa.Column[int]) -> None:
        """Counts a wrong try for every code that was meant, also dead ones, to measure their rate."""
        alive = [otps.c.account_id == self._attempt.account_id, otps.c.used_at.is_(None), otps.c.expires_at > self._now]
        connection.execute(otps.update().where(*alive, *self._narrowing).values({tries: tries + 1}))

    def _add(self, connection: Connection, length: int, chance: float, wrong: int = 1) -> None:
        scope = self._attempt.scope
        ledger.add(connection, self._attempt.account_id, scope, length, self._now, wrong=wrong, chance=chance)

    def _notify(self, connection: Connection, wrong: Wrong) -> bool:
        """Publishes the suspicion, once an hour; returns whether this was the first of the hour."""
        account_id = self._attempt.account_id
        if not ledger.first_notice(connection, account_id, self._now):
            return False
        latest = (
            sa.select(messages.c.number_id)
            .join(otps, otps.c.message_id == messages.c.id)
            .where(otps.c.account_id == account_id, messages.c.account_id == account_id)
            .order_by(otps.c.id.desc())
            .limit(1)
        )
        number_id = connection.execute(latest).scalar()
        number = numbers.by_id(connection, account_id, number_id) if number_id is not None else None
        if number is not None:
            event = OtpGuessing(
                number_id=number.key,
                checked_by=_FIELDS[self._attempt.scope],
                wrong_checks=wrong.hour,
                timestamp=int(self._now),
            )
            append(connection, account_id, number.id, "otp_guessing", "", body=lambda: event, now=self._now)
        return True


def _cost(codes: int, length: int) -> float:
    """The chance that a guess compared with that many codes hits one."""
    return codes / 10**length if length else 0.0
