"""The language that a caller asks for by `Accept-Language` (RFC 9110, section 12.5.4). Pure."""

from __future__ import annotations

_LANGUAGES = {"en": "en", "id": "id", "in": "id"}
"""Primary subtags; `in` is the old one of Indonesian, which Java still sends."""


_OPERATORS = ("/api/", "/gateways/", "/meta/", "/metrics", "/healthz", "/readyz")
"""Paths of operators, monitors, and other programs that the operator has set up."""


def before_account(path: str, accept_language: str) -> str:
    """The language of a refusal while the account is not known: what is asked for, else Indonesian (to operators
    English)."""
    return asked_for(accept_language) or ("en" if path.startswith(_OPERATORS) else "id")


def asked_for(accept_language: str) -> str | None:
    """`en` or `id`, whichever the header rates higher; None when it names neither."""
    rated: list[tuple[float, str]] = []
    for part in accept_language[:200].lower().split(","):
        tag, *parameters = (piece.strip() for piece in part.split(";"))
        language = _LANGUAGES.get(tag.partition("-")[0])
        quality = _quality(parameters)
        if language is not None and quality > 0:
            rated.append((quality, language))
    return max(rated, key=lambda one: one[0])[1] if rated else None


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
