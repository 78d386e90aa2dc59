"""The table of all codes, and the sentence of a reason in a language. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

from kurir.reasons import (
    addresses,
    administration,
    bodies,
    commands,
    connections,
    failures,
    imports,
    media,
    messages,
    numbers,
    otp,
    readiness,
    replays,
    requests,
    sending,
    states,
    templates,
    waiting,
    webhooks,
)
from kurir.reasons.formats import count, moment
from kurir.reasons.reason import Code, Reason

AREAS = (
    addresses,
    administration,
    bodies,
    commands,
    connections,
    failures,
    imports,
    media,
    messages,
    numbers,
    otp,
    readiness,
    replays,
    requests,
    sending,
    states,
    templates,
    waiting,
    webhooks,
)
TABLE: dict[str, Code] = {
    entry.code: entry for area in AREAS for entry in vars(area).values() if isinstance(entry, Code)
}


def sentence(reason: Reason, language: str) -> str:
    """The reason's sentence in `en` or `id`; "" for no reason. A code of another release is shown as it is."""
    if reason.code == "as_written":
        return str(reason.parameters.get("text", ""))
    known = TABLE.get(reason.code)
    if known is None:
        return " ".join((reason.code, *(str(value) for value in reason.parameters.values() if isinstance(value, str))))
    return _Sentence(language).vformat(known.en if language == "en" else known.id, (), reason.parameters)


class _Sentence(Formatter):
    """Fills a sentence in: reasons become their sentences, moments are written as people do."""

    def __init__(self, language: str) -> None:
        self._language = language

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The parameter; one that a row of another release does not hold is left out."""
        return kwargs.get(str(key), "")

    def format_field(self, value: Any, format_spec: str) -> str:
        """One parameter in words."""
        if isinstance(value, Reason):
            return sentence(value, self._language)
        if format_spec == "moment":
            return moment(value, self._language) if isinstance(value, int | float) else str(value)
        if format_spec == "count":
            return count(value, self._language) if isinstance(value, int) else str(value)
        return f"{value:g}" if isinstance(value, float) else str(value)
