"""Meta's callbacks of official numbers: find the signer, read the content, store it.

A tenant knows the app secret and can sign any content. So a body is read within bounds, off the event loop unless it is
small, accounts in turn; it is stored in groups; and an account's raw callbacks are bounded: a callback that exceeds the
bound waits.
"""

from __future__ import annotations

import asyncio

from kurir.channels.cloud_api.callback_parts import Parts, taken_apart
from kurir.channels.cloud_api.signers import Signers
from kurir.inbox import Inbox
from kurir.kit.clock import Clock
from kurir.kit.fair_sharing import Turns
from kurir.kit.sealing import Sealing
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.store.database import Database

_ON_THE_LOOP = 16_384
"""Bytes up to which a body is read on the event loop, in some milliseconds. Meta's have one or two thousand."""
_BESIDE_IT = 2
"""Maximum larger bodies that are read at the same time."""


class Callbacks:
    """The callbacks of all official numbers. Raises DatabaseUnavailable throughout."""

    def __init__(self, database: Database, sealing: Sealing, inbox: Inbox, clock: Clock) -> None:
        self._database = database
        self._sealing = sealing
        self._inbox = inbox
        self._clock = clock
        self._signers = Signers(database, sealing, clock)
        self._turns = Turns(_BESIDE_IT)

    async def has_verify_token(self, token: str, source: str) -> bool:
        """Whether an official number has this verify token; `source` is the client's."""
        return await self._database.read(
            lambda c: numbers.verify_token_matches(c, self._sealing, token), of=source, pool="strangers"
        )

    async def signers(self, body: bytes, signature: str, source: str) -> list[Number]:
        """The numbers whose app secret signed the body; an empty list when none did."""
        return await self._signers.of(body, signature, source)

    async def take_apart(self, body: bytes, signers: list[Number]) -> Parts:
        """Reads a signed body."""
        now = self._clock()
        if len(body) <= _ON_THE_LOOP:
            return taken_apart(body, signers, now)
        async with self._turns.place(signers[0].account_id):
            return await asyncio.to_thread(taken_apart, body, signers, now)

    async def store(self, parts: Parts, signers: list[Number]) -> int:
        """Stores the content of these signers' body, and quarantines what could not be read.

        Returns how many of its events were new.
        """
        signer = signers[0]
        new = await self._inbox.take_each(parts.events, parts.raw, "callback")
        if parts.raw and (parts.unread or not parts.events):
            await self._inbox.keep(signer.account_id, signer.id, parts.fingerprint, parts.raw)
        await self._inbox.take_each([(entry, "") for entry in parts.entries], queue="callback")
        for account_id in {number.account_id for number in signers}:
            await self._inbox.bound_raw(account_id)
        return new
