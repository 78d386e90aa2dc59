"""Sign-in by e-mail and password, at a cost that strangers cannot drive up.

Passwords are compared in one thread of its own, at the lowest priority, with a short queue in which every source has
turns. Tries are limited per source and per address before anything is compared, and given back when the password is
right. A sign-in is cached for a while, so that the parts of a page do not cost a comparison each.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import secrets
import threading

import msgspec
import structlog
from cachetools import TTLCache

from kurir.accounts import members
from kurir.accounts.limits import Attempt, Blocked, FailedKeys, source_of
from kurir.accounts.members import Member
from kurir.kit.clock import Clock
from kurir.kit.shared_threads import Full, SharedThreads
from kurir.services.single_flight import OneAtATime
from kurir.store.database import Database, DatabaseUnavailable

REMEMBERED = 600.0
"""Seconds for which a sign-in is valid without a comparison, unless the password has been changed."""
_KNOWN = 30 * 86_400.0
"""Seconds for which a source that has signed in is exempt from the limit on its e-mail address: others cannot lock it
out by guessing."""
_SIZE = 10_000
_WAITING = 20
"""Comparisons that may wait; at some 0.1 to 0.4 s each, more would answer too late to be of use."""
LONGEST_EMAIL, LONGEST_PASSWORD = 254, 1_000
_LOWEST_PRIORITY = 19

log = structlog.get_logger(__name__)


class Busy(Exception):  # noqa: N818 - a state, not a mistake
    """Too many sign-ins wait already."""


class _Remembered(msgspec.Struct, frozen=True):
    member: Member
    password_hash: str


class SignIn:
    """Identifies members. `limit` is the notation of wrong tries per source and per e-mail address.

    Raises SettingsError for a limit that cannot be read.
    """

    def __init__(self, database: Database, clock: Clock, limit: str) -> None:
        self._database = database
        self._by_source = FailedKeys(limit)
        self._by_email = FailedKeys(limit)
        self._secret = secrets.token_bytes(32)
        self._remembered: TTLCache[bytes, _Remembered] = TTLCache(_SIZE, REMEMBERED, clock)
        self._known: TTLCache[bytes, bool] = TTLCache(_SIZE, _KNOWN, clock)
        self._single: OneAtATime[bytes, Member] = OneAtATime()
        self._comparing = SharedThreads("passwords", 1, room=_WAITING, prepared=_give_way)

    async def member(self, email: str, password: str, address: str) -> Member | None:
        """The member with that e-mail address and password; None when there is none.

        `address` is the client's. Raises Blocked after too many wrong tries, Busy, and DatabaseUnavailable.
        """
        email = email.strip().lower()
        if not email or len(email) > LONGEST_EMAIL or len(password) > LONGEST_PASSWORD or "\0" in email:
            return None
        source = source_of(address)
        if seconds := self._by_source.blocked_for(source):
            raise Blocked(seconds)  # also to cached sign-ins: a guesser could query the cache without limit
        key = self._key(email, password, source)
        remembered = self._remembered.get(key)
        if remembered is not None:
            found = await self._database.read(lambda c: members.by_email(c, email), of=remembered.member.account_id)
            if found is not None and found[1] == remembered.password_hash:
                return found[0]
            self._remembered.pop(key, None)
        # the parts of a page are requested at once: one comparison for all
        return await self._single.run(key, lambda: self._tried(email, password, source, key))

    async def _tried(self, email: str, password: str, source: str, key: bytes) -> Member | None:
        known = self._key(email, source)
        async with contextlib.AsyncExitStack() as stack:
            attempts = [await stack.enter_async_context(self._by_source.attempt(source))]
            if known not in self._known:
                attempts.append(await stack.enter_async_context(self._by_email.attempt(email)))
            found = await self._compared(email, password, source, attempts)
            if found is None:
                return None
            for attempt in attempts:
                attempt.right()
        self._remembered[key] = _Remembered(*found)
        self._known[known] = True
        return found[0]

    async def _compared(
        self, email: str, password: str, source: str, attempts: list[Attempt]
    ) -> tuple[Member, str] | None:
        try:
            found = await self._database.read(lambda c: members.by_email(c, email), of=source, pool="strangers")
            fits = await self._fits(found[1] if found else None, password, source)
        except (DatabaseUnavailable, Busy):
            for attempt in attempts:
                attempt.not_looked_at()
            raise
        return found if fits else None

    async def _fits(self, password_hash: str | None, password: str, source: str) -> bool:
        try:
            job = self._comparing.put(lambda: members.fits(password_hash, password), source)
        except Full as error:
            log.warning("sign_ins_busy", waiting=self._comparing.waiting())
            raise Busy from error
        try:
            return await job.future
        except asyncio.CancelledError:
            self._comparing.take_back(job)
            raise

    def _key(self, *parts: str) -> bytes:
        """The cache key of a sign-in, from which the password cannot be derived."""
        return hmac.digest(self._secret, "\0".join(parts).encode(), hashlib.sha256)


def _give_way() -> None:
    """Gives this thread, and the threads that it starts, the lowest priority (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
