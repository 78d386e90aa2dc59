"""Identifies a request: finds the account and its sender number by the credentials in the body."""

from __future__ import annotations

from kurir.accounts.accounts import Account
from kurir.accounts.limits import Blocked
from kurir.numbers.numbers import ChannelKind, Number
from kurir.reasons import Code
from kurir.reasons.requests import (
    INVALID_KEY,
    INVALID_NUMBER,
    KEY_EXPECTED,
    LICENSES_KEY_EXPECTED,
    NUMBER_ID_EXPECTED,
    PACKAGE_ENDED,
    PACKAGE_NOT_BEGUN,
    REQUIRED,
    TOO_MANY_WRONG_KEYS,
)
from kurir.services.callers import Callers
from kurir.web.compat_v1.body import Body
from kurir.web.compat_v1.endpoint import API_KEY_NAMES, LICENSES_KEY_NAMES, NUMBER_ID_NAMES, NumberField
from kurir.web.compat_v1.envelopes import WireError

_NUMBER_NAMES: dict[NumberField, tuple[str, ...]] = {
    "number_id": NUMBER_ID_NAMES,
    "licenses_key": LICENSES_KEY_NAMES,
}
_CHANNELS: dict[NumberField, ChannelKind] = {"number_id": "linked_device", "licenses_key": "cloud_api"}
NUMBER_EXPECTED: dict[NumberField, Code] = {
    "number_id": NUMBER_ID_EXPECTED,
    "licenses_key": LICENSES_KEY_EXPECTED,
}


class Identity:
    """Finds the account of a request's key, and the number that it names."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

    def known_account(self, body: Body, credential: str) -> Account | None:
        """What `account` returns when that was looked up a moment ago; None says nothing."""
        return self._callers.known_account(_key(body, credential))

    def known_number(self, account: Account, body: Body, field: NumberField) -> Number | None:
        """What `number` returns when that was looked up a moment ago; None says nothing. Raises WireError 405."""
        return self._callers.known_number(account.id, _number_key(body, field), _CHANNELS[field])

    async def account(self, body: Body, credential: str, address: str) -> Account:
        """The account whose key the body contains in any of its spellings.

        `credential` is the spelling that the endpoint's reference uses, `address` the client's. Raises WireError 403,
        or 400 when the address has sent too many wrong keys.
        """
        key = _key(body, credential)
        if not key:
            raise WireError("403", "invalid_api_key", REQUIRED, field=credential, expected=KEY_EXPECTED)
        try:
            account = await self._callers.account(key, address)
        except Blocked as blocked:
            headers = {"Retry-After": str(blocked.seconds)}
            raise WireError(
                "400", "rate_limited", TOO_MANY_WRONG_KEYS, headers=headers, seconds=blocked.seconds
            ) from blocked
        if account is None:
            raise WireError("403", "invalid_api_key", INVALID_KEY, field=credential)
        return account

    def require_package(self, account: Account, now: float) -> None:
        """Raises WireError 403 unless the account's package is active at `now`."""
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
        key = _number_key(body, field)
        found = await self._callers.number(account.id, key, _CHANNELS[field])
        if found is None:
            raise WireError("404", "invalid_number_id", INVALID_NUMBER, field=field, expected=NUMBER_EXPECTED[field])
        return found


def _key(body: Body, credential: str) -> str:
    return body.text(credential, *API_KEY_NAMES).strip()


def _number_key(body: Body, field: NumberField) -> str:
    return body.text(*_NUMBER_NAMES[field], required=True, expected=NUMBER_EXPECTED[field]).strip()
