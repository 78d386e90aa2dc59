"""A message template as the public API writes it: header, body, footer, buttons, and the variables with examples.

The same form is stored, shown in lists, turned into Meta's components, and filled in for a send.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

MEDIA_HEADERS = frozenset({"IMAGE", "VIDEO", "DOCUMENT"})
_VARIABLE = re.compile(r"\{\{([^{}]*)\}\}")


class Header(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part above the body. TEXT has `content`, media kinds `url`, LOCATION a place (degrees in WGS 84).

    `example` stands for the one variable that a TEXT header may have. A media header without `url`, or a LOCATION
    without a place, was made elsewhere: the send must provide it.
    """

    type: str
    content: str = ""
    url: str = ""
    name: str = ""
    address: str = ""
    latitude: float | None = None
    longitude: float | None = None
    example: str = ""

    def shown(self) -> dict[str, Any]:
        """The header in the public API's shape."""
        return {"type": self.type, **{k: v for k, v in msgspec.to_builtins(self).items() if k != "type"}}


class Button(msgspec.Struct, frozen=True):
    """A button: QUICK_REPLY, URL (`url`, `example`), PHONE_NUMBER (`phone_number`) or COPY_CODE (`example`)."""

    type: str
    label: str = ""
    url: str = ""
    example: str = ""
    phone_number: str = ""

    def shown(self) -> dict[str, Any]:
        """The button in the public API's shape."""
        extra = {"url": self.url, "example": self.example, "phone_number": self.phone_number}
        return {"type": self.type, "data": {"label": self.label, **{k: v for k, v in extra.items() if v}}}


class Variable(msgspec.Struct, frozen=True):
    """The variable of `placeholder` (`{{1}}`) in the body, with the example for Meta's reviewers."""

    placeholder: str
    label: str = ""
    example: str = ""


class TemplateForm(msgspec.Struct, frozen=True):
    """A template before it has an id anywhere."""

    name: str
    language: str
    category: str
    body: str
    header: Header | None = None
    footer: str = ""
    buttons: list[Button] = []
    variables: list[Variable] = []

    def example_of(self, placeholder: str) -> str:
        """The example of a variable, found by its placeholder with or without the braces; "" when there is none."""
        for variable in self.variables:
            if variable.placeholder.strip("{} ") == placeholder:
                return variable.example
        return ""


def variables_of(text: str) -> list[str]:
    """The names between `{{` and `}}`, in order of first appearance, each once."""
    return list(dict.fromkeys(name.strip() for name in _VARIABLE.findall(text)))


def with_variables_as(text: str, mark: str) -> str:
    """`text` with every variable replaced by `mark`."""
    return _VARIABLE.sub(lambda _: mark, text)
