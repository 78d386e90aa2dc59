"""Sender numbers in the database: add, list, rename, token, pause, resume, remove.

What needs the running devices (pairing, logout, live states) is in `devices`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection

from kurir.kit.clock import Clock
from kurir.kit.sealing import Sealing
from kurir.messages import bounds
from kurir.messages.addresses import AddressError, parse_phone
from kurir.numbers import numbers
from kurir.numbers import status as number_status
from kurir.numbers.changes import publish_change
from kurir.numbers.numbers import ChannelKind, Number
from kurir.reasons import Code, as_written
from kurir.reasons import administration as refusals
from kurir.reasons.numbers import PAUSED_BY_OPERATOR
from kurir.services.errors import Invalid, NotFound, NotPossible
from kurir.store.database import Database

_UNKNOWN: dict[ChannelKind | None, Code] = {
    None: refusals.NO_NUMBER,
    "linked_device": refusals.NO_LINKED_DEVICE,
    "cloud_api": refusals.NO_OFFICIAL_NUMBER,
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OfficialNumber:
    """A number's details at Meta, to add it. Never log it."""

    phone: str
    phone_number_id: str
    waba_id: str
    app_id: str
    access_token: str
    app_secret: str
    verify_token: str
    name: str = ""

    def __repr__(self) -> str:
        return f"OfficialNumber({self.phone_number_id}, …)"


@dataclass(frozen=True, slots=True)
class TokenSet:
    """A number with its new access token; `resumed`: it was paused before."""

    number: Number
    resumed: bool


class Numbers:
    """The sender numbers of all accounts. Raises DatabaseUnavailable throughout."""

    def __init__(
        self,
        database: Database,
        sealing: Sealing,
        clock: Clock,
        number_due: Callable[[int, int], None] = lambda _account_id, _number_id: None,
    ) -> None:
        """`number_due` is called with (account_id, number_id) after a number was resumed: it may send again."""
        self._number_due = number_due
        self._database = database
        self._sealing = sealing
        self._clock = clock

    # -- queries ---------------------------------------------------------------------------------------------------

    async def list(self, account_id: int) -> list[Number]:
        """The account's numbers, oldest first."""
        return await self._database.read(lambda c: numbers.of_account(c, account_id), of=account_id)

    async def list_of_all(self) -> list[Number]:
        """Every account's numbers, linked devices first: for the operator only."""
        return await self._database.read(_everyones, pool="lists")

    async def get(self, account_id: int, key: str) -> Number:
        """The account's number with this `number_id` or `licenses_key`. Raises NotFound."""
        return await self._database.read(lambda c: _get(c, account_id, key), of=account_id)

    async def get_of_any(self, key: str, channel: ChannelKind | None = None) -> Number:
        """The number of whichever account, of one channel if that is given: for the operator only. Raises NotFound."""
        found = await self._database.read(lambda c: numbers.by_any_key(c, key))
        if found is None or channel not in (None, found.channel):
            raise NotFound("key", _UNKNOWN[channel]())
        return found

    # -- changes ---------------------------------------------------------------------------------------------------

    async def add_device(self, account_id: int, name: str = "") -> Number:
        """A new linked device of the account, to be paired next."""
        name, now = bounds.text(name, bounds.NAME), self._clock()

        def work(connection: Connection) -> Number:
            number = numbers.add_linked_device(connection, account_id, name, clock=lambda: now)
            publish_change(connection, number, "added", now)
            return number

        return await self._database.write(work)

    async def add_official(self, account_id: int, wanted: OfficialNumber) -> Number:
        """A new official number of the account; its secrets are sealed. Raises Invalid."""
        try:
            phone = parse_phone(wanted.phone if wanted.phone.startswith("+") else "+" + wanted.phone)
        except AddressError as error:
            raise Invalid("phone", error.reason) from error
        for field in ("verify_token", "access_token", "app_secret"):
            _require_text(field, getattr(wanted, field))
        now = self._clock()

        def work(connection: Connection) -> Number:
            number = numbers.add_official(
                connection,
                self._sealing,
                account_id,
                phone=phone,
                phone_number_id=wanted.phone_number_id,
                waba_id=wanted.waba_id,
                app_id=wanted.app_id,
                access_token=wanted.access_token,
                app_secret=wanted.app_secret,
                verify_token=wanted.verify_token,
                name=bounds.text(wanted.name, bounds.NAME),
                clock=lambda: now,
            )
            publish_change(connection, number, "added", now)
            return number

        return await self._database.write(work)

    async def rename(self, account_id: int, key: str, name: str) -> Number:
        """Renames the account's number. Raises NotFound."""
        name, now = bounds.text(name, bounds.NAME), self._clock()

        def work(connection: Connection) -> Number:
            renamed = numbers.set_name(connection, account_id, _get(connection, account_id, key).id, name)
            number = _get(connection, account_id, key)
            if renamed:
                publish_change(connection, number, "renamed", now)
            return number

        return await self._database.write(work)

    async def set_token(self, account_id: int, key: str, token: str) -> TokenSet:
        """Sets an official number's access token; a paused one is resumed. Raises NotFound, Invalid."""
        token = token.strip()
        _require_text("access_token", token)
        now = self._clock()

        def work(connection: Connection) -> TokenSet:
            number = _get(connection, account_id, key, "cloud_api")
            numbers.set_access_token(connection, self._sealing, account_id, number.id, token)
            paused = number.paused
            if paused:
                number_status.resume(connection, number, now)
            return TokenSet(_get(connection, account_id, key), paused)

        def stored(done: TokenSet) -> None:
            if done.resumed:
                self._resumed(done.number)

        return await self._database.write(work, after_commit=stored)

    async def pause(self, account_id: int, key: str, reason: str = "") -> Number:
        """Pauses the account's number, of either channel, until it is resumed; it goes on receiving, its messages wait.

        Running gateways stop at their next claim. Raises NotFound, and NotPossible for a number that is paused.
        """
        why, now = as_written(bounds.text(reason, bounds.REASON)) or PAUSED_BY_OPERATOR(), self._clock()

        def work(connection: Connection) -> Number:
            number = _get(connection, account_id, key)
            if number.paused:
                raise NotPossible(refusals.PAUSED_ALREADY(key=key), "key")
            number_status.pause(connection, account_id, number.id, why, now)
            return _get(connection, account_id, key)

        return await self._database.write(work)

    async def resume(self, account_id: int, key: str) -> Number:
        """Resumes a paused number, of either channel: this gateway goes on at once, others within half a minute.

        Raises NotFound and NotPossible.
        """
        now = self._clock()

        def work(connection: Connection) -> Number:
            number = _get(connection, account_id, key)
            try:
                number_status.resume(connection, number, now)
            except number_status.NotPaused as error:
                raise NotPossible(error.reason, "key") from error
            return _get(connection, account_id, key)

        return await self._database.write(work, after_commit=self._resumed)

    def _resumed(self, number: Number) -> None:
        self._number_due(number.account_id, number.id)

    async def remove(self, account_id: int, key: str, *, left: bool = False) -> Number:
        """Removes the account's number and erases its secrets; its queued messages wait until they expire.

        `left`: its device was logged out, or its session deleted, just now. Returns it as it was. Raises NotFound, and
        NotPossible for a device that is still linked.
        """
        now = self._clock()

        def work(connection: Connection) -> Number:
            number = _get(connection, account_id, key)
            if number.jid and not left:
                raise NotPossible(refusals.STILL_PAIRED(key=key), "key")
            if numbers.remove(connection, account_id, number.id, now):
                publish_change(connection, number, "removed", now)
            return number

        number = await self._database.write(work)
        log.info("number_removed", number=key, account_id=account_id)
        return number


def _everyones(connection: Connection) -> list[Number]:
    return [*numbers.all_of_channel(connection, "linked_device"), *numbers.all_of_channel(connection, "cloud_api")]


def _get(connection: Connection, account_id: int, key: str, channel: ChannelKind | None = None) -> Number:
    found = numbers.by_key(connection, account_id, key)
    if found is None or channel not in (None, found.channel):
        raise NotFound("key", _UNKNOWN[channel]())
    return found


def _require_text(field: str, value: str) -> None:
    if not value.strip():
        raise Invalid(field, refusals.META_VALUE_EMPTY())
