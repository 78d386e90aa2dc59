"""Answers of the compatible API, and errors that name the field, in Indonesian or English.

Error body: `{"code": "405", "message": "<text>", "type": "<kind>"}` with `code` always a string. The HTTP status
equals `code` unless the setting `http_status` is `always_200` (wire contract, section 1).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from kurir.reasons import Code, Reason, ReasonedError, sentence
from kurir.reasons.requests import REQUIRED, WRONG

ErrorCode = Literal["400", "403", "404", "405", "408", "503"]
"""400 bad request or rate limit · 403 invalid API key, ended package · 404 invalid number id · 405 wrong or missing
parameter · 408 timeout with a dynamic message · 503 (ours) the gateway cannot store anything now."""

ErrorType = Literal[
    "invalid_request",
    "invalid_api_key",
    "package_ended",
    "invalid_number_id",
    "not_found",
    "rate_limited",
    "timeout",
    "unavailable",
    "unknown",
    "failed",
]


_QUOTED = 200
"""Characters of a value that an answer repeats."""


class WireError(ReasonedError):
    """A refusal in the wire's shape. Raise it anywhere in a handler; the server turns it into the answer.

    `headers` go out with it (`Retry-After`). Values fill the sentence's placeholders.
    """

    def __init__(
        self,
        code: ErrorCode,
        type: ErrorType,
        refusal: Code | Reason,
        /,
        *,
        headers: dict[str, str] | None = None,
        **values: object,
    ) -> None:
        super().__init__((refusal(**values) if isinstance(refusal, Code) else refusal).shortened(_QUOTED))
        self.code: ErrorCode = code
        self.type: ErrorType = type
        self.headers = headers or {}

    def body(self, language: str) -> dict[str, Any]:
        """The error body in that language."""
        return {"code": self.code, "message": sentence(self.reason, language), "type": self.type}


class Answer(msgspec.Struct, frozen=True):
    """A handler's answer: the JSON body, exactly the sample's keys, and our extra facts as headers.

    `status` is the HTTP status when it differs from the body's `code` (or the body has none).
    """

    body: dict[str, Any]
    headers: dict[str, str] = {}
    status: int | None = None


def missing(name: str, expected: str | Code | Reason) -> WireError:
    """405: a required field is absent or empty."""
    return WireError("405", "invalid_request", REQUIRED, field=name, expected=expected)


def wrong(name: str, expected: str | Code | Reason) -> WireError:
    """405: a field has a value that cannot be used."""
    return WireError("405", "invalid_request", WRONG, field=name, expected=expected)
