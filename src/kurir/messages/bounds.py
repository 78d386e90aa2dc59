"""Bounds on strangers' input: makes text valid and of limited length, and checks ids, times and digits. Pure.

Applied where a value is first read (engine host, callback reader, import, public API), so that no later code has to
expect bytes that are not UTF-8, a NUL (which PostgreSQL's texts cannot hold), a lone surrogate (which JSON and UTF-8
cannot represent), a name of a megabyte, or an id that does not fit into an index.
"""

from __future__ import annotations

import hashlib
import math
import re

TEXT = 65_536
"""Maximum characters of a message's text or caption: what a WhatsApp phone accepts; longer ones are truncated."""
NAME = 512
"""Maximum characters of a name: push name, contact, group subject, place, poll option, template."""
FILE_NAME = 255
"""Maximum characters of a file's name, as in most file systems."""
REASON = 2_000
"""Maximum characters of an explanation from elsewhere: an error of Meta's, of the engine, of a customer's server."""
MIME = 127
"""Maximum characters of a media type (RFC 6838: 127 for each half; anything longer is invalid)."""
ID = 255
"""Maximum characters of an id at WhatsApp: message ids have 20 to 32, `wamid.…` up to about 130."""

_LATEST = 4_102_444_800.0
"""1 January 2100, unix seconds: no message is later."""
_INVALID = re.compile("[\0\ud800-\udfff]")
_PLAIN_ID = re.compile(r"[\x21-\x7e]+")
_DIGITS = re.compile(r"[0-9]{1,18}")


def text(value: str | bytes | bytearray, limit: int = TEXT) -> str:
    """`value` as valid text of at most `limit` characters.

    Bytes that are not UTF-8, invalid characters and NUL become U+FFFD. Python's protobuf returns `bytes` for a string
    field that is not UTF-8.
    """
    if not isinstance(value, str):
        # four bytes at most make one character; none of them is half a surrogate pair
        return bytes(value[: limit * 4]).decode("utf-8", "replace")[:limit].replace("\0", "\ufffd")
    return _INVALID.sub("\ufffd", value[:limit])


def identifier(value: str | bytes | bytearray, limit: int = ID) -> str:
    """An id chosen by another side, made to fit an index: unchanged when it is printable ASCII of at most `limit`
    characters, else `sha256:` and its hash, so that different ids stay different and the same id stays the same."""
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)
    if not raw:
        return ""
    if len(raw) <= limit:
        plain = raw.decode("latin-1")
        if _PLAIN_ID.fullmatch(plain):
            return plain
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def moment(seconds: float, now: float) -> float:
    """A time given by another side (unix seconds); `now` when it cannot be a message's time."""
    return float(seconds) if math.isfinite(seconds) and 0 < seconds <= _LATEST else now


def number(value: object) -> int | None:
    """A whole number given as digits or as a number, up to 18 digits; None for anything else.

    `int()` alone raises ValueError from 4,300 digits on.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if 0 <= value < 10**18 else None
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return None
