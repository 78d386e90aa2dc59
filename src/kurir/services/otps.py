"""One-time passwords: send a code, check a code. Both are counted."""

from __future__ import annotations

from sqlalchemy import Connection

from kurir.kit.clock import Clock
from kurir.kit.metrics import Metrics, OtpOutcome
from kurir.kit.sealing import Sealing
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.otp.check import Attempt, CheckResult, check
from kurir.otp.issue import Issued, SendLimited, issue
from kurir.otp.rules import OtpRequest
from kurir.outbox.idempotency import Once
from kurir.outbox.outbox import Outbox
from kurir.outbox.restrictions import is_first_contact
from kurir.outbox.wait_reasons import Waiting, lasts, number_waits, restricted
from kurir.reasons.numbers import RESTRICTED_UNTIL
from kurir.reasons.otp import NUMBER_REMOVED
from kurir.services.errors import NotFound
from kurir.settings import Settings
from kurir.store.database import Database


class CannotArrive(Exception):  # noqa: N818 - a state of the world, not a mistake
    """The number surely cannot send while the code is valid; nothing was stored. `waiting` says why."""

    def __init__(self, waiting: Waiting) -> None:
        super().__init__(f"the number waits: {waiting.cause}")
        self.waiting = waiting


class Otps:
    """The one-time passwords of all accounts. Raises DatabaseUnavailable throughout."""

    def __init__(
        self,
        database: Database,
        sealing: Sealing,
        outbox: Outbox,
        *,
        settings: Settings,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._database = database
        self._sealing = sealing
        self._outbox = outbox
        self._settings = settings
        self._metrics = metrics
        self._clock = clock

    async def send(self, request: OtpRequest, *, once: Once | None = None) -> Issued:
        """Makes a code and stores its message.

        With `once`, which must have a key (no two codes are the same), the request is remembered. Raises CannotArrive,
        SendLimited, NotFound for a number that was removed, QueueFull and Repeated; then nothing was stored.
        """
        await self._require_a_way(request)
        try:
            issued = await issue(self._outbox, self._sealing, self._settings, request, self._clock(), once=once)
        except SendLimited:
            self._metrics.otp("limited")
            raise
        self._metrics.otp("issued")
        return issued

    async def check(self, attempt: Attempt) -> CheckResult:
        """Whether a code is right; a right one is used up."""
        result = await check(
            self._database,
            self._sealing,
            attempt,
            self._clock(),
            self._settings.otp_digits,
            digits_most=self._settings.otp_digits_most,
        )
        self._metrics.otp(_outcome(result))
        return result

    async def _require_a_way(self, request: OtpRequest) -> None:
        """Raises CannotArrive when the device surely cannot send within the code's lifetime; one that is connecting
        again may. Raises NotFound."""
        account_id, now = request.account.id, self._clock()
        number, first = await self._database.read(
            lambda c: _sender(c, account_id, request.number_id, request.phone), of=account_id
        )
        if number is None:
            raise NotFound("number_id", NUMBER_REMOVED())
        waiting = number_waits(number, number.state, number.state_reason, now)
        if waiting is None and first and number.restricted_until is not None:
            reason = RESTRICTED_UNTIL(until=number.restricted_until)
            waiting = restricted(number, reason, number.restricted_until, now)
        if waiting is not None and lasts(waiting, request.lifetime):
            self._metrics.refused("device_cannot_send")
            raise CannotArrive(waiting)


def _sender(connection: Connection, account_id: int, number_id: int, phone: str) -> tuple[Number | None, bool]:
    """The sender as it is now, and whether the phone number is a first contact of a restricted one."""
    number = numbers.by_id(connection, account_id, number_id)
    if number is None or number.restricted_until is None:
        return number, False
    return number, is_first_contact(connection, number.id, phone)


def _outcome(result: CheckResult) -> OtpOutcome:
    if result.valid:
        return "right"
    if result.retry_after is not None:
        return "refused"
    return "wrong" if result.any_open else "unknown"
