"""Lenient JSON decoding for Meta's bodies: one invalid character spoils only the text that contains it.

Answers and callbacks contain names and texts chosen by people. A byte that is not UTF-8, a lone surrogate, a bare
control character or a number out of range makes a strict decoder refuse the whole body, and with it a message's id.
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from kurir.kit.json_values import JsonValue
from kurir.messages import bounds

_LONGEST_NUMBER = 64
"""Maximum bits of a whole number that is read as text."""
_LONGEST_DIGITS = 19
"""Digits from which a whole number stays text."""


def decoded(body: bytes) -> JsonValue:
    """The JSON value in a body, with U+FFFD for invalid characters; None when it is not JSON even so."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return leniently_decoded(body)


def leniently_decoded(body: bytes) -> JsonValue:
    """The same for a body that a strict decoder has refused; several times slower."""
    try:
        text = body.decode("utf-8-sig", "replace")
        return _plain(json.loads(text, strict=False, parse_int=_whole_number, parse_constant=lambda _: None))
    except (ValueError, RecursionError):
        return None


def text_of(value: object, limit: int = bounds.TEXT) -> str:
    """A text of at most `limit` characters; whole numbers as their digits, anything else as absent ("")."""
    if isinstance(value, str):
        return bounds.text(value, limit)
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _LONGEST_NUMBER:
        return str(value)
    return ""


def identifier_of(value: object) -> str:
    """An id, which Meta writes as text or as a number, made to fit (see `bounds.identifier`); else ""."""
    return bounds.identifier(value) if isinstance(value, str) else text_of(value)


def _whole_number(digits: str) -> int | str:
    """A whole number, as text when it has more digits than any id or time (`int()` refuses thousands of them)."""
    return int(digits) if len(digits) < _LONGEST_DIGITS else digits


def _plain(value: Any) -> Any:
    """The same JSON value, able to be written as JSON again. Raises RecursionError."""
    kind = value.__class__  # a large body has tens of thousands of values, and most are plain already
    if kind is str:
        return _plain_text(value)
    if kind is dict:
        return {_plain_text(key): _plain(part) for key, part in value.items()}
    if kind is list:
        return [_plain(part) for part in value]
    if kind is float and not math.isfinite(value):
        return None
    return value


def _plain_text(value: str) -> str:
    return value if value.isascii() and "\0" not in value else bounds.text(value, len(value))
