"""JSON bodies of the operator API: decoded into structs, and refused with a reason that names the field.

msgspec reports what it refuses as an English text with the path of the value, such as
"Expected `str`, got `int` - at `$.name`". Its kinds are read from that text here and become codes; the text itself goes
nowhere.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import inspect
from starlette.requests import Request

from kurir.reasons import Reason, as_written
from kurir.reasons import bodies as reasons
from kurir.reasons.requests import (
    A_LIST,
    A_TEXT,
    AN_OBJECT,
    BODY_TOO_LARGE,
    BODY_TOO_SLOW,
    GOT,
    NOT_UTF8,
    ONE_OF,
    TOO_DEEP,
)
from kurir.web.http.body import BodyTooLarge, BodyTooSlow, read_body
from kurir.web.http.json_faults import json_fault
from kurir.web.operator.errors import ApiError

T = TypeVar("T")
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
"""A body's fields, each as it was sent."""
LONGEST_NAME = 300
"""Maximum characters of an unknown name in an answer."""
_WORDS = {
    "str": A_TEXT, "int": reasons.WHOLE_NUMBER, "float": reasons.NUMBER, "bool": reasons.BOOLEAN,
    "null": reasons.NULL, "array": A_LIST, "object": AN_OBJECT, "date": reasons.DAY, "datetime": reasons.MOMENT,
}  # fmt: skip
"""msgspec's names of types."""
_COMPARISONS = {
    ">=": reasons.AT_LEAST, "<=": reasons.AT_MOST, ">": reasons.ABOVE, "<": reasons.BELOW,
    "length >=": reasons.LENGTH_AT_LEAST, "length <=": reasons.LENGTH_AT_MOST,
}  # fmt: skip
_KINDS: list[tuple[re.Pattern[str], Callable[[re.Match[str]], Reason]]] = [
    (re.compile(r"Expected `(\w+)` (?:of )?((?:length )?[<>]=?) (\S+)"), lambda m: _COMPARISONS[m[2]](
        kind=_word(m[1]), bound=m[3])),
    (re.compile(r"Expected `str` matching regex '(.*)'", re.DOTALL), lambda m: reasons.PATTERN(pattern=m[1])),
    (re.compile(r"Invalid RFC3339 encoded date"), lambda _: reasons.DAY()),
    (re.compile(r"Invalid RFC3339 encoded datetime"), lambda _: reasons.MOMENT()),
    (re.compile(r"(?:Number|Integer value) out of range"), lambda _: reasons.IN_RANGE()),
]  # fmt: skip
"""What is expected, by msgspec's texts about a value of the right type."""
_GOT = re.compile(r"Expected `([^`]+)`, got `([^`]+)`")
_MISSING = re.compile(r"Object missing required field `([^`]+)`")
_NO_OBJECT = re.compile(r"Expected `object`, got `\w+`")
_PLACE = " - at `$"


class _NoFields(msgspec.Struct):
    """The body of a request that takes no fields."""


async def body_of(request: Request, limit: int) -> bytes:
    """The request's body. Raises ApiError: 413 beyond `limit` bytes, 408 when it is too slow."""
    try:
        return await read_body(request.receive, limit)
    except BodyTooLarge as error:
        raise ApiError(413, "too_large", BODY_TOO_LARGE(limit=limit)) from error
    except BodyTooSlow as error:
        raise ApiError(408, "timeout", BODY_TOO_SLOW(seconds=error.seconds)) from error


async def struct_of(request: Request, limit: int, type_: type[T], sample: str) -> T:
    """The request's JSON body as a struct; an empty body means all defaults. Raises ApiError naming the field, also one
    that the struct does not have."""
    return decoded(await body_of(request, limit), type_, sample)


async def check_no_fields(request: Request, limit: int) -> None:
    """Checks that the body is empty or `{}`. Raises ApiError naming the first field."""
    await struct_of(request, limit, _NoFields, "{}")


def decoded(raw: bytes, type_: type[T], sample: str) -> T:
    """A JSON body as a struct of plain fields; `sample` is shown where one helps. Raises ApiError."""
    text = raw if raw.strip() else b"{}"
    try:
        for name in _fields(text):
            if name not in field_names(type_):
                raise _refused(_unknown(name, field_names(type_)), name[:LONGEST_NAME])
        return msgspec.json.decode(text, type=type_)
    except msgspec.ValidationError as error:
        reason, field = explained(error, sample)
        raise _refused(reason, field) from error
    except msgspec.DecodeError as error:
        raise _refused(reasons.NOT_JSON(fault=json_fault(error), sample=sample)) from error
    except UnicodeDecodeError as error:
        raise _refused(NOT_UTF8(found=f"byte 0x{error.object[error.start]:02x}")) from error
    except RecursionError as error:
        raise _refused(TOO_DEEP()) from error


@functools.cache
def field_names(type_: type[Any]) -> tuple[str, ...]:
    """The names that a body of this type (a struct or dataclass of plain fields) may have, in their order."""
    described = inspect.type_info(type_)
    assert isinstance(described, inspect.StructType | inspect.DataclassType), type_
    return tuple(field.encode_name for field in described.fields)


def explained(error: msgspec.ValidationError, sample: str) -> tuple[Reason, str]:
    """Why msgspec refused a value, and the path of the field that it is about (`groups[0].name`)."""
    words, _, place = str(error).rpartition(_PLACE)
    words, field = (words, place.rstrip("`").lstrip(".")) if words else (place, "")
    if _NO_OBJECT.fullmatch(words) and not field:
        return reasons.NO_OBJECT(sample=sample), ""
    if missing := _MISSING.fullmatch(words):
        path = f"{field}.{missing[1]}" if field else missing[1]
        return reasons.MISSING(field=path, sample=sample), path
    if found := _GOT.fullmatch(words):
        return GOT(field=field, expected=_word(found[1]), found=_word(found[2])), field
    for pattern, expected in _KINDS:
        if match := pattern.fullmatch(words):
            return reasons.WRONG(field=field, expected=expected(match)), field
    return reasons.WRONG(field=field, expected=reasons.AS_IN(sample=sample)), field


def _word(name: str) -> Reason:
    """A type of msgspec's in words; a union's parts except `null`, which is the same as leaving the field out."""
    parts = [part for part in name.split(" | ") if part != "null"] or ["null"]
    if len(parts) > 1:
        return ONE_OF(words=" | ".join(parts))
    return _WORDS[parts[0]]() if parts[0] in _WORDS else as_written(f"`{parts[0]}`")


def _unknown(name: str, known: tuple[str, ...]) -> Reason:
    if not known:
        return reasons.NO_FIELDS(field=name)
    return reasons.UNKNOWN(field=name, known=", ".join(f"`{one}`" for one in known))


def _refused(reason: Reason, field: str = "") -> ApiError:
    return ApiError(400, "invalid", reason, field)
