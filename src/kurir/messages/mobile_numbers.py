"""Common mobile numbers, read without the whole of the `phonenumbers` library, with its results.

A pattern is built of the library's own metadata for each country code that belongs to one region. What a pattern
matches, the library would read in the same way, forty times as slowly (`tests/unit/test_addresses.py` compares them);
about everything else it says nothing.
"""

from __future__ import annotations

import re
from functools import lru_cache

import phonenumbers
from phonenumbers import PhoneNumberDesc

LEAST_DIGITS, MOST_DIGITS = 7, 15
"""Digits of an E.164 number with its country code (ITU-T E.164: 15 at most)."""
_CODE_DIGITS = 3
_LITERAL = re.compile(r"\d*")


class _Patterns:
    """How mobile numbers of one country code are written: with the code in front, and as dialled in the country."""

    def __init__(
        self, code: str, metadata: phonenumbers.PhoneMetadata, general: PhoneNumberDesc, mobile: PhoneNumberDesc
    ) -> None:
        prefix = metadata.national_prefix_for_parsing or ""
        lengths = set(mobile.possible_length) & set(general.possible_length) - set(general.possible_length_local_only)
        self._code = code
        self._lengths = {n for n in lengths if LEAST_DIGITS <= len(code) + n <= MOST_DIGITS}
        # a number that begins like a trunk prefix might be read without it
        bare = f"(?!{prefix or '(?!)'})(?=(?:{general.national_number_pattern})\\Z)(?:{mobile.national_number_pattern})"
        self._with_code = re.compile(rf"{code}(?P<number>{bare})\Z")
        self._dialled = None
        if _LITERAL.fullmatch(prefix) and not metadata.national_prefix_transform_rule:
            abroad = metadata.international_prefix or "(?!)"
            self._dialled = re.compile(rf"(?!{code})(?!{abroad})(?:{prefix})?(?P<number>{bare})\Z")

    def with_code(self, digits: str) -> str | None:
        """The digits themselves when they are a valid mobile number with its country code."""
        match = self._with_code.match(digits)
        return digits if match is not None and len(match["number"]) in self._lengths else None

    def dialled(self, digits: str) -> str | None:
        """The number that the digits mean in the country, with or without its trunk prefix."""
        match = self._dialled.match(digits) if self._dialled is not None else None
        return self._code + match["number"] if match is not None and len(match["number"]) in self._lengths else None


def dialled(digits: str, code: str) -> str | None:
    """The E.164 digits that `digits` mean in the country of `code`, with or without the code or the trunk prefix.

    None when this is no common mobile number; the library has to say then. `code` has at most three digits.
    """
    patterns = _patterns(code)
    if patterns is None:
        return None
    return patterns.with_code(digits) or patterns.dialled(digits)


def international(digits: str) -> str | None:
    """`digits` when they are a common mobile number with its country code; None when the library has to say."""
    for length in range(1, _CODE_DIGITS + 1):
        patterns = _patterns(digits[:length])
        if patterns is not None:
            return patterns.with_code(digits)
    return None


@lru_cache(maxsize=2_000)  # texts of up to three digits
def _patterns(code: str) -> _Patterns | None:
    """The patterns of a country code; None for one that no region has for itself, or whose plan is unusual."""
    known = phonenumbers.COUNTRY_CODE_TO_REGION_CODE
    if not code or code.startswith("0") or any(int(code[:end]) in known for end in range(1, len(code))):
        return None
    regions = known.get(int(code), ())
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(regions[0]) if len(regions) == 1 else None
    if metadata is None or metadata.same_mobile_and_fixed_line_pattern:
        return None
    mobile, general = metadata.mobile, metadata.general_desc
    if mobile is None or general is None or not (mobile.national_number_pattern and general.national_number_pattern):
        return None
    return _Patterns(code, metadata, general, mobile)
