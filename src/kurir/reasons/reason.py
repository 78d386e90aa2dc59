"""A reason as a value: a stable code and the parameters of its sentence. Pure."""

from __future__ import annotations

from string import Formatter

import msgspec

_LONGEST = 300
"""Characters of a text parameter: what others wrote is quoted, not handed on whole."""
_AS_WRITTEN = "as_written"
_JSON = '{"code":'
"""How a reason begins in a text column."""


class Reason(msgspec.Struct, frozen=True):
    """A code with the parameters of its sentence; a parameter may be a reason itself. `NOTHING` is false."""

    code: str
    parameters: dict[str, str | int | float | Reason] = {}

    def __bool__(self) -> bool:
        return bool(self.code)

    def shortened(self, most: int) -> Reason:
        """The same with text parameters of at most `most` characters."""
        return Reason(self.code, {name: _shortened(value, most) for name, value in self.parameters.items()})


NOTHING = Reason("")
"""No reason: its sentence is empty."""


class Code(msgspec.Struct, frozen=True):
    """One entry of the table: a code and its sentence in both languages, with `{name}` placeholders.

    Call it with a value for each placeholder to get a `Reason`. `{name:moment}` takes unix seconds,
    `{name:count}` a large whole number.
    """

    code: str
    id: str
    en: str

    def __call__(self, **values: object) -> Reason:
        """The reason with these parameters; texts are cut at 300 characters. Raises TypeError when one is missing."""
        if set(values) != self.placeholders:
            raise TypeError(f"{self.code} takes {sorted(self.placeholders)}, not {sorted(values)}")
        return Reason(self.code, {name: _parameter(value) for name, value in values.items()})

    @property
    def placeholders(self) -> set[str]:
        """The names of its parameters."""
        return placeholders(self.en)


def placeholders(template: str) -> set[str]:
    """The names that a sentence has placeholders for."""
    return {name for _, name, _, _ in Formatter().parse(template) if name is not None}


def as_written(text: str) -> Reason:
    """A text that is shown as it is in both languages: another party's own words, or a row of an earlier release."""
    return Reason(_AS_WRITTEN, {"text": text}) if text else NOTHING


def stored(reason: Reason) -> str:
    """The reason as a text column stores it: JSON, "" for none; a plain text stays as it is.

    A text that begins like such JSON is stored as JSON too: other people's words never become a reason of ours.
    """
    if not reason:
        return ""
    if reason.code == _AS_WRITTEN and not (text := str(reason.parameters.get("text", ""))).startswith(_JSON):
        return text
    return msgspec.json.encode(reason).decode()


def read(text: str) -> Reason:
    """The reason of a text column. Rows of earlier releases hold sentences, which are shown as they are."""
    if text.startswith(_JSON):
        try:
            return _decoder.decode(text)
        except (msgspec.DecodeError, RecursionError):
            pass
    return as_written(text)


def _parameter(value: object) -> str | int | float | Reason:
    if isinstance(value, Code):
        return value()
    if isinstance(value, Reason | int | float):
        return value
    return str(value)[:_LONGEST]


def _shortened(value: str | float | Reason, most: int) -> str | int | float | Reason:
    if isinstance(value, Reason):
        return value.shortened(most)
    return value[:most] if isinstance(value, str) else value


_decoder = msgspec.json.Decoder(Reason)
