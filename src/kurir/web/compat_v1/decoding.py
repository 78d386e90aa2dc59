"""From the bytes of a request to its fields: JSON first, then the forms that existing clients send.

JSON is recognised by its first character, whatever `Content-Type` says, and may contain the `// …` comments of the
reference collection's samples. Everything else is a form. A body that cannot be read is a 400 that says why; no input
raises anything but `WireError`.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from kurir.kit.json_values import JsonValue
from kurir.reasons import Code, Reason
from kurir.reasons.requests import (
    COMPRESSED,
    EMPTY,
    NOT_AN_OBJECT,
    NOT_JSON,
    NOT_UTF8,
    TOO_DEEP,
)
from kurir.web.compat_v1 import forms
from kurir.web.compat_v1.envelopes import WireError
from kurir.web.http.json_faults import json_fault

DEPTH_LIMIT = 40
"""Objects and lists within one another; a template's components need six."""
_UTF8_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
# a string literal is matched so that `//` inside it is kept; its closing quote is optional, so that an unclosed one
# swallows the rest at once instead of being tried again from every later quote
_STRING_OR_COMMENT = re.compile(rb'("(?:[^"\\]|\\.)*+"?)|//[^\r\n]*', re.DOTALL)
_decode_json = msgspec.json.Decoder(dict[str, Any]).decode
_decode_texts = msgspec.json.Decoder(dict[str, str]).decode


def decode(
    raw: bytes, content_type: str = "", content_encoding: str = "", credential: str = "api_key"
) -> dict[str, Any]:
    """The fields of a request body.

    `raw` is the whole body, already bounded; `content_type` and `content_encoding` are the headers' values ("" when
    absent); `credential` is named when nothing was sent at all. Raises WireError 400.
    """
    if not content_encoding and raw.startswith(b"{"):
        # what most clients send: one object of texts, in which nothing can be deep; whatever else it is, a mistake
        # included, is decided in general
        try:
            return _decode_texts(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            pass
    return _decode_any(raw, content_type, content_encoding, credential)


def refusal(reason: Code | Reason, /, **values: object) -> WireError:
    """400: the body as a whole cannot be read."""
    return WireError("400", "invalid_request", reason, headers=None, **values)


def _decode_any(raw: bytes, content_type: str, content_encoding: str, credential: str) -> dict[str, Any]:
    encoding = content_encoding.strip().lower()
    if encoding not in ("", "identity"):
        raise refusal(COMPRESSED, encoding=encoding)
    if raw.startswith(_WIDE_BOMS) or b"\x00" in raw[:4]:
        raise refusal(NOT_UTF8, found="UTF-16 / UTF-32")
    text = raw.removeprefix(_UTF8_BOM).strip()
    if not text:
        raise refusal(EMPTY, credential=credential)
    if text.startswith((b"{", b"[", b'"', b"//")):
        return _json(text)
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return _form(forms.multipart, raw, content_type)
    if kind == "application/x-www-form-urlencoded" or (kind != "application/json" and b"=" in text):
        return _form(forms.urlencoded, text)
    return _json(text)


def _json(text: bytes) -> dict[str, Any]:
    try:
        fields = _decode_json(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        without = _STRING_OR_COMMENT.sub(rb"\1", text) if b"//" in text else text
        if without == text:
            raise _explained(error) from error
        return _json(without)
    # only a body with many brackets can be deep
    if text.count(b"{") + text.count(b"[") > DEPTH_LIMIT and _depth(fields) > DEPTH_LIMIT:
        raise refusal(TOO_DEEP)
    return fields


def _depth(fields: dict[str, JsonValue]) -> int:
    """How many objects and lists stand within one another."""
    depth = 0
    level: list[dict[str, JsonValue] | list[JsonValue]] = [fields]
    while level:
        depth += 1
        inner = (value.values() if isinstance(value, dict) else value for value in level)
        level = [item for items in inner for item in items if isinstance(item, (dict, list))]
    return depth


def _explained(error: Exception) -> WireError:
    if isinstance(error, RecursionError):
        return refusal(TOO_DEEP)
    if isinstance(error, UnicodeDecodeError):
        return refusal(NOT_UTF8, found=f"byte 0x{error.object[error.start]:02x}")
    if isinstance(error, msgspec.ValidationError) and "object" in str(error):
        return refusal(NOT_AN_OBJECT)
    return refusal(NOT_JSON, reason=json_fault(error))


def _form(parse: Any, *arguments: Any) -> dict[str, Any]:
    try:
        return parse(*arguments)
    except forms.FormError as error:
        raise refusal(error.reason) from error
