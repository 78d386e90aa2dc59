"""What is wrong with a text that is no JSON, in words of Kurir's instead of the decoder's."""

from __future__ import annotations

from kurir.reasons import Reason
from kurir.reasons.requests import (
    JSON_AT,
    JSON_BROKEN,
    JSON_CHARACTER,
    JSON_COMMA,
    JSON_NAMES,
    JSON_TRAILING,
    JSON_TRUNCATED,
)

_FAULTS = {
    "Input data was truncated": JSON_TRUNCATED,
    "trailing comma in object": JSON_COMMA,
    "trailing comma in array": JSON_COMMA,
    "invalid character": JSON_CHARACTER,
    "trailing characters": JSON_TRAILING,
    "object keys must be strings": JSON_NAMES,
}
"""Errors of msgspec that have a sentence of their own."""


def json_fault(error: Exception) -> Reason:
    """The fault that msgspec's error names, and the byte where it is if the error says so."""
    words, _, place = str(error).removeprefix("JSON is malformed: ").partition(" (byte ")
    at = place.rstrip(")")
    fault = _FAULTS.get(words, JSON_BROKEN)()
    return JSON_AT(fault=fault, byte=at) if at.isdecimal() else fault
