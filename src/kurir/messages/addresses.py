"""Recipients' addresses: phone numbers and groups, and the `phone_no` + `country_code` rule of the wire contract.

A phone number is stored as E.164 digits without the plus sign (`6281234567890`), as WhatsApp writes it; a group as its
id with the `@g.us` server (`120363…@g.us`).
"""

from __future__ import annotations

import re
from functools import lru_cache

import phonenumbers

from kurir.messages import mobile_numbers
from kurir.messages.mobile_numbers import LEAST_DIGITS, MOST_DIGITS
from kurir.reasons import ReasonedError
from kurir.reasons import addresses as reasons

GROUP_SERVER = "@g.us"
_REMEMBERED = 2_000
"""Numbers that the library has read and that are remembered: callers write to the same people again and again."""
_SEPARATORS = re.compile(r"[\s().\-/\u00a0\u200e\u200f\u202a-\u202e\u2010-\u2015]+")
_GROUP_ID = re.compile(r"\d{5,32}(-\d{5,20})?")


class AddressError(ReasonedError, ValueError):
    """The text cannot be a phone number or a group id; the reason says what was expected."""


class CountryCodeError(AddressError):
    """The country code is invalid."""


def parse_phone(phone_no: str, country_code: str = "", default_country_code: str = "62") -> str:
    """Converts a client's phone number to E.164 digits.

    Inputs as seen in client programs: `812…`+`62`, `62812…`+`62`, `0812…`+`62`, `+62 812-…`, `0062812…`, and no country
    code (`default_country_code`, the account's, is used then). The country code is never doubled: digits that already
    form a valid number of that country with their prefix are kept.

    Returns the digits (7 to 15). Raises AddressError when no reading gives a possible number.
    """
    if phone_no.isdigit() and not phone_no.startswith("00"):
        compact, digits, international = phone_no, phone_no, False
    else:
        raw = phone_no.strip()
        for suffix in ("@c.us", "@s.whatsapp.net"):
            raw = raw.removesuffix(suffix)
        compact = _SEPARATORS.sub("", raw)
        international = compact.startswith(("+", "00"))
        digits = compact.lstrip("+")
    code = country_code
    if not code.isdigit() or code.startswith("0"):
        code = _SEPARATORS.sub("", code).lstrip("+").lstrip("0") or default_country_code
    if not (digits.isascii() and digits.isdigit()):
        raise AddressError(reasons.PHONE_DIGITS())
    if not (code.isascii() and code.isdigit() and len(code) <= 3 and int(code) in _country_codes()):
        raise CountryCodeError(reasons.COUNTRY_CODE())
    if international:
        digits = digits.removeprefix("00") if compact.startswith("00") else digits
        return mobile_numbers.international(digits) or _by_library(digits, "")
    return mobile_numbers.dialled(digits, code) or _by_library(digits, code)


def parse_group(group_id: str) -> str:
    """Converts `120363…` or `120363…@g.us` to the id with its server. Raises AddressError."""
    bare = group_id.strip().removesuffix(GROUP_SERVER)
    if not (bare.isascii() and _GROUP_ID.fullmatch(bare)):
        raise AddressError(reasons.GROUP_ID())
    return bare + GROUP_SERVER


def is_group(recipient: str) -> bool:
    """Whether a recipient as stored is a group."""
    return recipient.endswith(GROUP_SERVER)


def _by_library(digits: str, code: str) -> str:
    """What the library reads; `code` is "" when the digits begin with a country code. Raises AddressError."""
    if len(digits) > MOST_DIGITS + 5:  # what is remembered has a bounded size
        return _remembered.__wrapped__(digits, code)
    return _remembered(digits, code)


@lru_cache(maxsize=_REMEMBERED)
def _remembered(digits: str, code: str) -> str:
    return _read(digits, code) if code else _possible(digits)


def _read(digits: str, code: str) -> str:
    """Reads `digits` as dialled in the country of `code`, with or without the code or the country's trunk prefix.

    `62812…` with `62` is ambiguous only where a national number can itself begin with the country code; a *valid*
    number that already includes the code takes precedence, then a valid national one. A number that is valid in neither
    way is kept as sent: numbering plans change faster than the library that knows them.
    """
    if digits.startswith(code) and (number := _valid(digits, None)):
        return number
    region = phonenumbers.region_code_for_country_code(int(code))
    if number := _valid(digits, region):
        return number
    if digits.startswith("0"):
        return _possible(code + digits.lstrip("0"))
    return _possible(digits if digits.startswith(code) else code + digits)


def _valid(digits: str, region: str | None) -> str | None:
    """The E.164 digits when this is a valid number of the region (None: with its country code in front)."""
    try:
        number = phonenumbers.parse(digits if region else "+" + digits, region)
    except phonenumbers.NumberParseException:
        return None
    return _digits_of(number) if phonenumbers.is_valid_number(number) else None


def _possible(digits: str) -> str:
    """`digits` when they are a possible E.164 number, with a trunk 0 after the country code taken out."""
    try:
        number = phonenumbers.parse("+" + digits)
    except phonenumbers.NumberParseException as error:
        raise AddressError(reasons.PHONE_COUNTRY()) from error
    found = _digits_of(number)
    if not (phonenumbers.is_possible_number(number) and LEAST_DIGITS <= len(found) <= MOST_DIGITS):
        raise AddressError(reasons.PHONE_LENGTH())
    return found


def _digits_of(number: phonenumbers.PhoneNumber) -> str:
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)[1:]


def _country_codes() -> dict[int, tuple[str, ...]]:
    return phonenumbers.COUNTRY_CODE_TO_REGION_CODE
