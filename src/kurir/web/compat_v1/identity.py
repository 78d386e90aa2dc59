"""Who calls, and with which sender number: from the credentials in the body to the account and its number.

What was found is remembered for a few seconds, so that the hot path asks the database for nothing; what was not found
is never remembered. A revoked key therefore works for `MEMORY_SECONDS` longer at most.
"""

from __future__ import annotations

from cachetools import LRUCache, TTLCache
from sqlalchemy import Connection

from kurir.accounts import accounts, api_keys
from kurir.accounts.accounts import Account
from kurir.accounts.limits import Blocked, FailedKeys, source_of
from kurir.kit.clock import Clock
from kurir.kit.sealing import Sealing
from kurir.numbers import numbers
from kurir.numbers.numbers import KEY_PREFIX, ChannelKind, Number
from kurir.store.database import Database, DatabaseUnavailable
from kurir.web.compat_v1.body import Body
from kurir.web.compat_v1.endpoint import API_KEY_NAMES, LICENSES_KEY_NAMES, NUMBER_ID_NAMES, NumberField
from kurir.web.compat_v1.envelopes import REQUIRED, Phrase, WireError
from kurir.web.http.single_flight import OneAtATime

MEMORY_SECONDS = 5.0
_MEMORY_SIZE = 10_000

INVALID_KEY = Phrase(id="API Key pada kolom `{field}` tidak valid.", en="The API key in field `{field}` is not valid.")
TOO_MANY_WRONG_KEYS = Phrase(
    id="Terlalu banyak API Key yang salah dari alamat ini: coba lagi dalam {seconds} detik.",
    en="Too many wrong API keys from this address: try again in {seconds} seconds.",
)
PACKAGE_ENDED = Phrase(
    id="Paket `{package}` telah berakhir sejak {date}.", en="The package `{package}` ended on {date}."
)
PACKAGE_NOT_BEGUN = Phrase(
    id="Paket `{package}` baru aktif mulai {date}.", en="The package `{package}` only begins on {date}."
)
INVALID_NUMBER = Phrase(
    id="`{field}` tidak ditemukan pada akun ini: {expected}.",
    en="`{field}` is not a number of this account: {expected}.",
)

KEY_EXPECTED = Phrase(id="API Key akun Anda", en="the API key of your account")
_NUMBER_NAMES: dict[NumberField, tuple[str, ...]] = {
    "number_id": NUMBER_ID_NAMES,
    "licenses_key": LICENSES_KEY_NAMES,
}
_CHANNELS: dict[NumberField, ChannelKind] = {"number_id": "linked_device", "licenses_key": "cloud_api"}
NUMBER_EXPECTED: dict[NumberField, Phrase] = {
    "number_id": Phrase(
        id="Number ID perangkat, diawali BO-", en="the Number ID of a linked device, which starts with BO-"
    ),
    "licenses_key": Phrase(
        id="kunci lisensi nomor resmi, diawali WB-", en="the licence key of an official number, which starts with WB-"
    ),
}


class Identity:
    """Answers "whose key is this?" and "is this number theirs?"."""

    def __init__(self, database: Database, sealing: Sealing, clock: Clock, failed_keys: FailedKeys) -> None:
        self._database = database
        self._sealing = sealing
        self._clock = clock
        self._failed_keys = failed_keys
        self._single: OneAtATime[str, Account] = OneAtATime()
        self._accounts: TTLCache[str, Account] = TTLCache(_MEMORY_SIZE, MEMORY_SECONDS, clock)
        self._numbers: TTLCache[tuple[int, str], Number] = TTLCache(_MEMORY_SIZE, MEMORY_SECONDS, clock)
        self._right_keys: LRUCache[str, bool] = LRUCache(_MEMORY_SIZE)
        """Keys that were right when they were last looked up, however long ago."""

    async def account(self, body: Body, credential: str, address: str) -> Account:
        """The account whose key the body carries in any of its spellings.

        `credential` is the spelling that the endpoint's reference uses, `address` the client's. Raises WireError 403,
        or 400 when the address has sent too many wrong keys. Keys known to this process are let through even then,
        so that nobody can lock out the callers who share an address.
        """
        key = body.text(credential, *API_KEY_NAMES).strip()
        if not key:
            raise WireError("403", "invalid_api_key", REQUIRED, field=credential, expected=KEY_EXPECTED)
        key_hash = api_keys.hash_of(self._sealing, key)
        account = self._accounts.get(key_hash)
        if account is None:
            account = await self._looked_up(key_hash, credential, address)
        return account

    def require_package(self, account: Account) -> None:
        """Raises WireError 403 unless the account's package is active now."""
        now = self._clock()
        if account.package_active(now):
            return
        ended = now >= account.package_until
        date = account.local(account.package_until if ended else account.package_from)
        raise WireError(
            "403",
            "package_ended",
            PACKAGE_ENDED if ended else PACKAGE_NOT_BEGUN,
            package=account.package_name,
            date=f"{date:%Y-%m-%d %H:%M}",
        )

    async def number(self, account: Account, body: Body, field: NumberField) -> Number:
        """The account's number that the body names. Raises WireError: 405 for none, 404 when it is not theirs.

        The answer is the same for a number that does not exist and for another account's.
        """
        key = body.text(*_NUMBER_NAMES[field], required=True, expected=NUMBER_EXPECTED[field]).strip()
        remembered = self._numbers.get((account.id, key))
        if remembered is not None and remembered.channel == _CHANNELS[field]:
            return remembered
        found = None
        if key.startswith(KEY_PREFIX[_CHANNELS[field]]):
            found = await self._database.read(lambda c: numbers.by_key(c, account.id, key), of=account.id)
        if found is None:
            raise WireError("404", "invalid_number_id", INVALID_NUMBER, field=field, expected=NUMBER_EXPECTED[field])
        self._numbers[account.id, key] = found
        return found

    async def _looked_up(self, key_hash: str, credential: str, address: str) -> Account:
        """Asks the database, once for all who come with the same key at the same time, unless it is wrong: each then
        is a try of its own."""
        try:
            account = await self._single.run(key_hash, lambda: self._asked(key_hash, source_of(address)))
        except Blocked as blocked:
            headers = {"Retry-After": str(blocked.seconds)}
            raise WireError(
                "400", "rate_limited", TOO_MANY_WRONG_KEYS, headers=headers, seconds=blocked.seconds
            ) from blocked
        if account is None:
            raise WireError("403", "invalid_api_key", INVALID_KEY, field=credential)
        return account

    async def _asked(self, key_hash: str, source: str) -> Account | None:
        """The account of a key: of one that was right before beside the limits, of others within them."""
        if key_hash in self._right_keys:
            account = await self._database.read(lambda c: _account_of(c, key_hash), of=key_hash)
            self._remember(key_hash, account)
            return account
        async with self._failed_keys.attempt(source) as attempt:
            try:
                account = await self._database.read(lambda c: _account_of(c, key_hash), of=source, pool="strangers")
            except DatabaseUnavailable:
                attempt.not_looked_at()
                raise
            if account is not None:
                attempt.right()
            self._remember(key_hash, account)
            return account

    def _remember(self, key_hash: str, account: Account | None) -> None:
        if account is None:
            self._accounts.pop(key_hash, None)
            self._right_keys.pop(key_hash, None)
        else:
            self._accounts[key_hash] = account
            self._right_keys[key_hash] = True


def _account_of(connection: Connection, key_hash: str) -> Account | None:
    account_id = api_keys.account_of(connection, key_hash)
    return None if account_id is None else accounts.by_id(connection, account_id)
