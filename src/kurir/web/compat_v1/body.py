"""The request body, read leniently: numbers and strings are interchangeable, unknown fields ignored, aliases known.

Every getter takes the field's name first and its aliases after it, and raises `WireError` 405 naming the field as the
reference collection spells it. null and "" count as absent, as existing clients send both.
"""

from __future__ import annotations

import math
from typing import Any

from kurir.kit.json_values import JsonValue
from kurir.reasons import Code, Reason
from kurir.reasons.requests import (
    A_FLAG,
    A_HUGE_NUMBER,
    A_LIST,
    A_NUMBER,
    A_TEXT,
    A_WHOLE_NUMBER,
    AN_OBJECT,
    GOT,
    HALF_CHARACTER,
    ONE_OF,
    TOO_LONG,
)
from kurir.web.compat_v1.envelopes import WireError, missing, wrong

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class Body:
    """A decoded request body."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    @property
    def fields(self) -> dict[str, Any]:
        """Every field as it came."""
        return self._fields

    def value(self, *names: str) -> Any:
        """The first present value among the names, as it came; None when all are absent, null or ""."""
        get = self._fields.get
        for name in names:
            found = get(name)
            if found is not None and found != "":
                return found
        return None

    def has_any(self, names: frozenset[str]) -> bool:
        """Whether any of the names is among the fields, whatever its value."""
        return not names.isdisjoint(self._fields)

    def text(
        self,
        *names: str,
        expected: str | Code | Reason = A_TEXT,
        required: bool = False,
        default: str = "",
        limit: int | None = None,
    ) -> str:
        """A string; numbers and true/false become their text. Control characters other than newline and tab go."""
        get = self._fields.get
        for name in names:
            found = get(name)
            if found is not None and found != "":
                break
        else:
            if required:
                raise missing(names[0], expected)
            return default
        text = found if type(found) is str and found.isprintable() else text_of(found, names[0], expected)
        if required and not text.strip():
            raise missing(names[0], expected)
        if limit is not None and len(text) > limit:
            raise WireError("405", "invalid_request", TOO_LONG, field=names[0], length=len(text), limit=limit)
        return text

    def flag(self, *names: str, default: bool = False) -> bool:
        """`"1"`/`1`/`true` or `"0"`/`0`/`false`."""
        found = self.value(*names)
        if found is None:
            return default
        if found == "1":
            return True
        if found == "0":
            return False
        word = (_as_text(found) or "").strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise _got(names[0], A_FLAG, found)

    def integer(self, *names: str, default: int | None = None, least: int = 0, most: int = 2**31 - 1) -> int:
        """A whole number, also as a string. Without a default the field is required."""
        found = self.value(*names)
        if found is None:
            if default is None:
                raise missing(names[0], _whole(least, most))
            return default
        number = _as_number(found)
        if number is None or number != int(number) or not least <= number <= most:
            raise _got(names[0], _whole(least, most), found)
        return int(number)

    def number(self, *names: str, least: float, most: float) -> float:
        """A required number, also as a string."""
        found = self.value(*names)
        if found is None:
            raise missing(names[0], _between(least, most))
        number = _as_number(found)
        if number is None or not least <= number <= most:
            raise _got(names[0], _between(least, most), found)
        return number

    def choice(self, *names: str, choices: tuple[str, ...], default: str) -> str:
        """One of a few words, in any case."""
        found = self.value(*names)
        if found is None:
            found = default
        if found in choices:
            return found
        word = text_of(found, names[0]).strip().lower()
        if word not in choices:
            raise _got(names[0], _one_of(choices), word)
        return word

    def items(self, *names: str) -> list[Any] | None:
        """A list, or None when absent."""
        found: JsonValue = self.value(*names)
        if found is None or isinstance(found, list):
            return found
        raise _got(names[0], A_LIST, found)

    def mapping(self, *names: str) -> dict[str, Any] | None:
        """An object, or None when absent."""
        found: JsonValue = self.value(*names)
        if found is None or isinstance(found, dict):
            return found
        raise _got(names[0], AN_OBJECT, found)


def text_of(value: Any, name: str, expected: str | Code | Reason = A_TEXT) -> str:
    """A field's value as a text, see `Body.text`. Raises WireError 405 naming the field."""
    text = _as_text(value)
    if text is None:
        raise _got(name, expected, value)
    return _clean(text, name)


def _got(name: str, expected: str | Code | Reason, found: Any) -> WireError:
    return WireError("405", "invalid_request", GOT, field=name, expected=expected, found=_describe(found))


def _whole(least: int, most: int) -> Reason:
    return A_WHOLE_NUMBER(least=least, most=most)


def _between(least: float, most: float) -> Reason:
    return A_NUMBER(least=float(least), most=float(most))


def _one_of(choices: tuple[str, ...]) -> Reason:
    return ONE_OF(words=", ".join(choices))


def _as_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 256 else None
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return None


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool):
        return float(value)
    text = _as_text(value)
    if text is None or len(text) > 40 or "_" in text:
        return None
    try:
        number = float(text.strip().replace(",", ".", 1))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _clean(text: str, name: str) -> str:
    """Text that every database and both wires accept: no control characters, no lone surrogates."""
    if text.isprintable():
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise wrong(name, HALF_CHARACTER) from error
    return "".join(c for c in text if c in "\n\t" or c >= " ")


def _describe(value: Any) -> str | Code:
    """A short description of a value."""
    if isinstance(value, dict):
        return AN_OBJECT
    if isinstance(value, list):
        return A_LIST
    if isinstance(value, int) and value.bit_length() > 256:
        return A_HUGE_NUMBER
    text = str(value)
    return f"`{text[:40]}…`" if len(text) > 40 else f"`{text}`"
