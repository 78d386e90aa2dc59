"""What goes back over the compatible wire: answers, and errors that name the field, in Indonesian or English.

Error body: `{"code": "405", "message": "<text>", "type": "<kind>"}` with `code` always a string. The HTTP status
equals `code` unless the setting `http_status` is `always_200` (wire contract, section 1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

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


class Phrase(NamedTuple):
    """One sentence in both languages; `{name}` placeholders are filled in by `say`."""

    id: str
    en: str

    def say(self, language: str, **values: object) -> str:
        """The sentence in `language` (`id` or `en`), filled in; a value may be a phrase, others are cut at 200."""
        sentence = self.en if language == "en" else self.id
        shown = {
            name: value.say(language) if isinstance(value, Phrase) else str(value)[:200]
            for name, value in values.items()
        }
        return sentence.format(**shown)


class WireError(Exception):
    """A refusal in the wire's shape. Raise it anywhere in a handler; the server turns it into the answer.

    `headers` go out with it (`Retry-After`). Values fill the phrase's placeholders.
    """

    def __init__(
        self,
        code: ErrorCode,
        type: ErrorType,
        phrase: Phrase,
        *,
        headers: dict[str, str] | None = None,
        **values: object,
    ) -> None:
        super().__init__(phrase.say("en", **values))
        self.code: ErrorCode = code
        self.type: ErrorType = type
        self.phrase = phrase
        self.values = values
        self.headers = headers or {}

    def body(self, language: str) -> dict[str, Any]:
        """The error body in that language."""
        return {"code": self.code, "message": self.phrase.say(language, **self.values), "type": self.type}


@dataclass(frozen=True, slots=True)
class Answer:
    """A handler's answer: the JSON body, exactly the sample's keys, and our extra facts as headers.

    `status` is the HTTP status when it differs from the body's `code` (or the body has none).
    """

    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    status: int | None = None


REQUIRED = Phrase(id="Kolom `{field}` wajib diisi: {expected}.", en="Field `{field}` is required: {expected}.")
WRONG = Phrase(id="Kolom `{field}` tidak valid: {expected}.", en="Field `{field}` is not valid: {expected}.")
TOO_LONG = Phrase(
    id="Kolom `{field}` terlalu panjang: {length} karakter, maksimal {limit}.",
    en="Field `{field}` is too long: {length} characters, at most {limit} are allowed.",
)


def missing(name: str, expected: str | Phrase) -> WireError:
    """405: a required field is absent or empty."""
    return WireError("405", "invalid_request", REQUIRED, field=name, expected=expected)


def wrong(name: str, expected: str | Phrase) -> WireError:
    """405: a field has a value that cannot be used."""
    return WireError("405", "invalid_request", WRONG, field=name, expected=expected)
