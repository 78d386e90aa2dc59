"""Form bodies, as PHP and browsers write them: `a=1`, `items[]=x`, `order[0][column]=2`, urlencoded or multipart.

Files cannot be uploaded: the API takes media by URL, and refuses them instead of dropping them.
"""

from __future__ import annotations

import logging
import re
from typing import Any
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import FormParser, parse_options_header

from kurir.kit.json_values import JsonValue
from kurir.reasons import ReasonedError
from kurir.reasons.requests import (
    FILE_SENT,
    FORM_BOTH,
    FORM_BROKEN,
    FORM_DEEP,
    FORM_FIELDS,
    FORM_NO_BOUNDARY,
    FORM_NOT_UTF8,
    FORM_UNCLOSED,
    MALFORMED,
)

FIELD_LIMIT = 500
"""Fields in one form; the widest known client sends about forty."""
_DEPTH_LIMIT = 8
_PATH = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)", re.DOTALL)
_STEP = re.compile(r"\[([^\[\]]*)\]")


# it warns of every broken form, which any stranger can send: the caller gets an error, and metrics count it
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


class FormError(ReasonedError):
    """A form that cannot be read, for a reason."""


def urlencoded(raw: bytes) -> dict[str, Any]:
    """The fields of an `application/x-www-form-urlencoded` body. Raises FormError."""
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=FIELD_LIMIT)
    except UnicodeDecodeError as error:
        raise FormError(MALFORMED(reason=FORM_NOT_UTF8)) from error
    except ValueError as error:
        raise FormError(MALFORMED(reason=FORM_FIELDS(most=FIELD_LIMIT))) from error
    return nested(pairs)


def multipart(raw: bytes, content_type: str) -> dict[str, Any]:
    """The fields of a `multipart/form-data` body. Raises FormError, also when a part is a file."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise FormError(MALFORMED(reason=FORM_NO_BOUNDARY))
    found: list[tuple[bytes, bytes]] = []
    files: list[bytes] = []
    finished: list[bool] = []
    try:
        parser = FormParser(
            "multipart/form-data",
            lambda part: found.append((part.field_name or b"", part.value or b"")),
            lambda part: files.append(part.field_name or b""),
            on_end=lambda: finished.append(True),
            boundary=boundary,
            config={"MAX_FIELDS": FIELD_LIMIT, "MAX_MEMORY_FILE_SIZE": len(raw) + 1},
        )
        try:
            parser.write(raw)
            parser.finalize()
        finally:
            parser.close()
    except (FormParserError, ValueError) as error:
        raise FormError(MALFORMED(reason=FORM_BROKEN)) from error
    if files:
        raise FormError(FILE_SENT(field=files[0].decode(errors="replace")))
    if not finished:
        raise FormError(MALFORMED(reason=FORM_UNCLOSED))
    try:
        return nested([(name.decode(), value.decode()) for name, value in found])
    except UnicodeDecodeError as error:
        raise FormError(MALFORMED(reason=FORM_NOT_UTF8)) from error


def nested(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Turns `a[b]`, `a[]` and `a[0]` names into objects and lists; a plain name that is repeated keeps its last value.

    Raises FormError for a name that is both a value and an object, or nested deeper than any client does.
    """
    root: dict[str, JsonValue] = {}
    for name, value in pairs:
        match = _PATH.fullmatch(name)
        steps = [match[1], *_STEP.findall(match[2])] if match else [name]
        if len(steps) > _DEPTH_LIMIT:
            raise FormError(MALFORMED(reason=FORM_DEEP(name=name[:40])))
        place = root
        for step in steps[:-1]:
            inner = place.setdefault(step or str(len(place)), {})
            if not isinstance(inner, dict):
                raise FormError(MALFORMED(reason=FORM_BOTH(name=name[:40])))
            place = inner
        last = steps[-1] or str(len(place))
        if isinstance(place.get(last), dict):
            raise FormError(MALFORMED(reason=FORM_BOTH(name=name[:40])))
        place[last] = value
    return {name: _lists(value) for name, value in root.items()}


def _lists(value: JsonValue) -> JsonValue:
    """Objects whose names are exactly 0, 1, 2 … become lists, as PHP meant them."""
    if not isinstance(value, dict):
        return value
    if set(value) == {str(index) for index in range(len(value))}:
        return [_lists(value[str(index)]) for index in range(len(value))]
    return {name: _lists(inner) for name, inner in value.items()}
