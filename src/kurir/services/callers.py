"""Identifies callers: finds the account of an API key, and the number of a number's key.

Successful look-ups are remembered for a few seconds, so that the hot path needs neither the database nor a hash of the
key; failed ones are not. A revoked key therefore works for `MEMORY_SECONDS` longer at most. Keys themselves are only in
memory and only that long; whether one is remembered shows in no time that a guesser could use, as it is found by
Python's hash of it, which is keyed with a secret of the process.
"""

from __future__ import annotations

from cachetools import LRUCache
from sqlalchemy import Connection

from kurir.accounts import accounts, api_keys
from kurir.accounts.accounts import Account
from kurir.accounts.limits import FailedKeys, source_of
from kurir.kit.clock import Clock
from kurir.kit.sealing import Sealing
from kurir.kit.short_memory import ShortMemory
from kurir.numbers import numbers
from kurir.numbers.numbers import KEY_PREFIX, ChannelKind, Number
from kurir.services.single_flight import OneAtATime
from kurir.store.database import Database, DatabaseUnavailable

MEMORY_SECONDS = 5.0
_MEMORY_SIZE = 10_000


class Callers:
    """The accounts behind API keys. `limit` is the notation of wrong keys per client address.

    Raises SettingsError for a limit that cannot be read.
    """

    def __init__(self, database: Database, sealing: Sealing, clock: Clock, limit: str) -> None:
        self._database = database
        self._sealing = sealing
        self._failed_keys = FailedKeys(limit)
        self._single: OneAtATime[str, Account] = OneAtATime()
        self._clock = clock
        self._accounts: ShortMemory[str, Account] = ShortMemory(_MEMORY_SIZE, MEMORY_SECONDS)
        """Accounts by the API key itself."""
        self._numbers: ShortMemory[tuple[int, str], Number] = ShortMemory(_MEMORY_SIZE, MEMORY_SECONDS)
        self._right_keys: LRUCache[str, bool] = LRUCache(_MEMORY_SIZE)
        """Hashes of the keys that were right when they were last looked up, however long ago."""

    def known_account(self, key: str) -> Account | None:
        """The account of an API key that was right a moment ago; None says nothing."""
        return self._accounts.get(key, self._clock())

    async def account(self, key: str, address: str) -> Account | None:
        """The account of an API key; None for a wrong one. `address` is the client's.

        Raises Blocked when the address has sent too many wrong keys, and DatabaseUnavailable. Keys known to this
        process are let through even then, so that nobody can lock out the callers who share an address.
        """
        account = self.known_account(key)
        if account is not None:
            return account
        key_hash = api_keys.hash_of(self._sealing, key)
        # one look-up for concurrent calls with the same key; each wrong one counts as a try
        return await self._single.run(key_hash, lambda: self._looked_up(key, key_hash, source_of(address)))

    def known_number(self, account_id: int, key: str, channel: ChannelKind) -> Number | None:
        """The account's number with this key, if it was looked up a moment ago; None says nothing."""
        found = self._numbers.get((account_id, key), self._clock())
        return found if found is not None and found.channel == channel else None

    async def number(self, account_id: int, key: str, channel: ChannelKind) -> Number | None:
        """The account's number of that channel with this key; None also for another account's."""
        remembered = self.known_number(account_id, key, channel)
        if remembered is not None:
            return remembered
        if not key.startswith(KEY_PREFIX[channel]):
            return None
        found = await self._database.read(lambda c: numbers.by_key(c, account_id, key), of=account_id)
        if found is not None:
            self._numbers.put((account_id, key), found, self._clock())
        return found

    async def _looked_up(self, key: str, key_hash: str, source: str) -> Account | None:
        """Looks the key up: one that was right before without limits, others within them."""
        if key_hash in self._right_keys:
            account = await self._database.read(lambda c: _account_of(c, key_hash), of=key_hash)
            self._remember(key, key_hash, account)
            return account
        async with self._failed_keys.attempt(source) as attempt:
            try:
                account = await self._database.read(lambda c: _account_of(c, key_hash), of=source, pool="strangers")
            except DatabaseUnavailable:
                attempt.not_looked_at()
                raise
            if account is not None:
                attempt.right()
            self._remember(key, key_hash, account)
            return account

    def _remember(self, key: str, key_hash: str, account: Account | None) -> None:
        if account is None:
            self._accounts.drop(key)
            self._right_keys.pop(key_hash, None)
        else:
            self._accounts.put(key, account, self._clock())
            self._right_keys[key_hash] = True


def _account_of(connection: Connection, key_hash: str) -> Account | None:
    account_id = api_keys.account_of(connection, key_hash)
    return None if account_id is None else accounts.by_id(connection, account_id)
