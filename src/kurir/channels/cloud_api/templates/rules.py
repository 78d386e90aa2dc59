"""Meta's rules for a new template, checked before submission. Pure.

Source: Meta, "Template components" and the subcodes of template creation. `faults` finds all broken rules at once and
names the field of each; Meta would report one at a time, after minutes of review.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from pywa.types.templates import TemplateLanguage

from kurir.messages.template_form import MEDIA_HEADERS, Button, Header, TemplateForm, variables_of, with_variables_as

CATEGORIES = ("MARKETING", "UTILITY", "AUTHENTICATION")
VARIABLE_AT_END = "Variables can't be at the end of the template body."
VARIABLE_AT_START = "Variables can't be at the start of the template body."
BODY_LIMIT = 1024
_LINE_LIMIT = 60
_LABEL_LIMIT = 25
_URL_LIMIT = 2000
_CODE_LIMIT = 15
_BUTTONS = {"QUICK_REPLY": 10, "URL": 2, "PHONE_NUMBER": 1, "COPY_CODE": 1}
_ALL_BUTTONS = 10
_WORDS_PER_VARIABLE = 2
"""Minimum words per variable. Meta does not publish the ratio behind subcode 2388293; below this it always refuses."""

_NAME = re.compile(r"[a-z0-9_]{1,512}")
_MARK = "\x00"
_LINK = re.compile(r"https?://[^\s/]+\S*", re.IGNORECASE)
_PHONE = re.compile(r"\+?[0-9]{5,20}")

Fault = tuple[str, str]
"""A field of the request and a sentence about it."""


@cache
def languages() -> frozenset[str]:
    """The language codes that Meta knows for templates."""
    return frozenset(str(language.value) for language in TemplateLanguage) - {"UNKNOWN", "None"}


def faults(form: TemplateForm) -> dict[str, list[str]]:
    """Every rule that the form breaks, as sentences by field; empty when Meta should accept it."""
    found: dict[str, list[str]] = {}
    for check in (_name, _body, _header, _footer, _buttons, _examples):
        for field, sentence in check(form):
            found.setdefault(field, []).append(sentence)
    return found


def _name(form: TemplateForm) -> Iterator[Fault]:
    if not _NAME.fullmatch(form.name):
        yield "name", "The name may hold lower-case letters, digits and _ only, 1 to 512 of them."
    if form.language not in languages():
        yield "language", "The language must be one of Meta's template languages, such as id, en, en_US or ms."
    if form.category not in CATEGORIES:
        yield "category", f"The category must be one of {', '.join(CATEGORIES)}."


def _body(form: TemplateForm) -> Iterator[Fault]:
    if not form.body.strip():
        yield "body", "The body is required."
        return
    if len(form.body) > BODY_LIMIT:
        yield "body", f"The body has {len(form.body)} characters, at most {BODY_LIMIT} are allowed."
    names = variables_of(form.body)
    if names != [str(position) for position in range(1, len(names) + 1)]:
        yield "body", "Variables must be {{1}}, {{2}}, … in order and without gaps."
    if form.category == "AUTHENTICATION":
        # Meta generates the text of these; the form's text is only shown in lists
        if len(names) != 1:
            yield "body", "The body of an AUTHENTICATION template has exactly one variable, the code."
        return
    yield from _edges(form.body, len(names))


def _edges(body: str, count: int) -> Iterator[Fault]:
    marked = with_variables_as(body, _MARK)
    # punctuation beside a variable does not count as text
    core = re.sub(r"[^\w\x00]", "", marked)
    if core.endswith(_MARK):
        yield "body", VARIABLE_AT_END
    if core.startswith(_MARK):
        yield "body", VARIABLE_AT_START
    if re.search(rf"{_MARK}\s*{_MARK}", marked):
        yield "body", "Two variables can't stand side by side."
    words = re.findall(r"\w+", marked.replace(_MARK, " "))
    if count and len(words) < _WORDS_PER_VARIABLE * count + 1:
        yield "body", f"The body has too few words ({len(words)}) for {count} variables."


def _header(form: TemplateForm) -> Iterator[Fault]:
    header = form.header
    if header is None:
        return
    if form.category == "AUTHENTICATION":
        yield "header", "An AUTHENTICATION template has no header."
    elif header.type == "TEXT":
        yield from _header_text(header)
    elif header.type in MEDIA_HEADERS:
        if not _LINK.fullmatch(header.url):
            yield "header", f"A header of type {header.type} needs `url`, an http or https address of a sample."
    elif header.type == "LOCATION":
        yield from _header_place(header)
    else:
        yield "header", "The header's type must be one of TEXT, IMAGE, VIDEO, DOCUMENT, LOCATION."


def _header_text(header: Header) -> Iterator[Fault]:
    text = header.content
    names = variables_of(text)
    if not text.strip():
        yield "header", "A header of type TEXT needs `content`."
    if len(text) > _LINE_LIMIT:
        yield "header", f"The header has {len(text)} characters, at most {_LINE_LIMIT} are allowed."
    if "\n" in text or "*" in text:
        yield "header", "The header can't have line breaks or formatting."
    if names and names != ["1"]:
        yield "header", "The header can have one variable at most, {{1}}."


def _header_place(header: Header) -> Iterator[Fault]:
    if header.latitude is None or not -90 <= header.latitude <= 90:
        yield "header", "A header of type LOCATION needs `latitude`, -90 to 90."
    if header.longitude is None or not -180 <= header.longitude <= 180:
        yield "header", "A header of type LOCATION needs `longitude`, -180 to 180."


def _footer(form: TemplateForm) -> Iterator[Fault]:
    if form.footer and form.category == "AUTHENTICATION":
        yield "footer", "An AUTHENTICATION template has no footer of its own."
    if len(form.footer) > _LINE_LIMIT:
        yield "footer", f"The footer has {len(form.footer)} characters, at most {_LINE_LIMIT} are allowed."
    if "{{" in form.footer:
        yield "footer", "The footer can't have variables."


def _buttons(form: TemplateForm) -> Iterator[Fault]:
    kinds = [button.type for button in form.buttons]
    if form.category == "AUTHENTICATION" and kinds not in ([], ["COPY_CODE"]):
        yield "buttons", "An AUTHENTICATION template has one button at most, COPY_CODE."
        return
    if len(kinds) > _ALL_BUTTONS:
        yield "buttons", f"There are {len(kinds)} buttons, at most {_ALL_BUTTONS} are allowed."
    for kind, most in _BUTTONS.items():
        if kinds.count(kind) > most:
            yield "buttons", f"There are {kinds.count(kind)} buttons of type {kind}, at most {most} are allowed."
    if sum((left == "QUICK_REPLY") != (right == "QUICK_REPLY") for left, right in pairwise(kinds)) > 1:
        yield "buttons", "QUICK_REPLY buttons must stand together, all first or all last."
    for position, button in enumerate(form.buttons):
        for sentence in _button(button, form.category):
            yield f"buttons.{position}", sentence


def _button(button: Button, category: str) -> Iterator[str]:
    if button.type not in _BUTTONS:
        yield f"The button's type must be one of {', '.join(_BUTTONS)}."
        return
    # Meta generates the label of COPY_CODE
    if button.type != "COPY_CODE" and not 1 <= len(button.label) <= _LABEL_LIMIT:
        yield f"The label must have 1 to {_LABEL_LIMIT} characters."
    if "{{" in button.label:
        yield "The label can't have variables."
    if button.type == "URL":
        yield from _button_url(button)
    elif button.type == "PHONE_NUMBER" and not _PHONE.fullmatch(button.phone_number):
        yield "`phone_number` must be a phone number of at most 20 digits."
    elif button.type == "COPY_CODE" and category != "AUTHENTICATION" and not 1 <= len(button.example) <= _CODE_LIMIT:
        yield f"`example` must be a code of 1 to {_CODE_LIMIT} characters."


def _button_url(button: Button) -> Iterator[str]:
    if len(button.url) > _URL_LIMIT or not _LINK.fullmatch(with_variables_as(button.url, "x")):
        yield f"`url` must be an http or https address of at most {_URL_LIMIT} characters."
    names = variables_of(button.url)
    if names and (names != ["1"] or button.url.count("{{") != 1 or not button.url.endswith("}}")):
        yield "`url` can have one variable, {{1}}, and only at its end."
    if names and not button.example:
        yield "`example` is required for a `url` with a variable."


def _examples(form: TemplateForm) -> Iterator[Fault]:
    if form.category == "AUTHENTICATION":
        return
    for name in variables_of(form.body):
        if not form.example_of(name):
            yield "variables", f"Variable {{{{{name}}}}} needs an example."
    header = form.header
    if header and variables_of(header.content) and not (header.example or form.example_of("1")):
        yield "variables", "The variable of the header needs an example."
