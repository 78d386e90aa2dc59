"""Meta's rules for a new template, checked before submission. Pure.

Source: Meta, "Template components" and the subcodes of template creation. `faults` finds all broken rules at once and
names the field of each; Meta would report one at a time, after minutes of review.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from kurir.messages.template_form import MEDIA_HEADERS, Button, Header, TemplateForm, variables_of, with_variables_as
from kurir.reasons import Reason
from kurir.reasons import templates as reasons

CATEGORIES = ("MARKETING", "UTILITY", "AUTHENTICATION")
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

_LANGUAGES = """
    af ar ar_AE ar_EG ar_LB ar_MA ar_QA ar_SA az bg bn ca cs da de el en en_AU en_CA en_GB en_IN en_US es es_AR
    es_CL es_CO es_ES es_MX es_PE es_VE et fa fi fil fr fr_BE fr_CA ga gu ha he hi hr hu id it ja ka kk kn ko
    ky_KG lo lt lv mk ml mr ms nb nl pa pl pt_BR pt_PT ro ru rw_RW sk sl sq sr sv sw ta te th tr uk ur uz vi
    zh_CN zh_HK zh_TW zu
"""
LANGUAGES = frozenset(_LANGUAGES.split())
"""The language codes that Meta knows for templates ("Supported languages"); a test compares them with pywa's."""

Fault = tuple[str, Reason]
"""A field of the request and what is wrong with it."""


def faults(form: TemplateForm) -> dict[str, list[Reason]]:
    """Every rule that the form breaks, by field; empty when Meta should accept it."""
    found: dict[str, list[Reason]] = {}
    for check in (_name, _body, _header, _footer, _buttons, _examples):
        for field, reason in check(form):
            found.setdefault(field, []).append(reason)
    return found


def _name(form: TemplateForm) -> Iterator[Fault]:
    if not _NAME.fullmatch(form.name):
        yield "name", reasons.NAME()
    if form.language not in LANGUAGES:
        yield "language", reasons.LANGUAGE()
    if form.category not in CATEGORIES:
        yield "category", reasons.CATEGORY(words=", ".join(CATEGORIES))


def _body(form: TemplateForm) -> Iterator[Fault]:
    if not form.body.strip():
        yield "body", reasons.BODY()
        return
    if len(form.body) > BODY_LIMIT:
        yield "body", reasons.BODY_LONG(length=len(form.body), most=BODY_LIMIT)
    names = variables_of(form.body)
    if names != [str(position) for position in range(1, len(names) + 1)]:
        yield "body", reasons.VARIABLES_IN_ORDER()
    if form.category == "AUTHENTICATION":
        # Meta generates the text of these; the form's text is only shown in lists
        if len(names) != 1:
            yield "body", reasons.AUTHENTICATION_BODY()
        return
    yield from _edges(form.body, len(names))


def _edges(body: str, count: int) -> Iterator[Fault]:
    marked = with_variables_as(body, _MARK)
    # punctuation beside a variable does not count as text
    core = re.sub(r"[^\w\x00]", "", marked)
    if core.endswith(_MARK):
        yield "body", reasons.VARIABLE_AT_END()
    if core.startswith(_MARK):
        yield "body", reasons.VARIABLE_AT_START()
    if re.search(rf"{_MARK}\s*{_MARK}", marked):
        yield "body", reasons.VARIABLES_ADJACENT()
    words = re.findall(r"\w+", marked.replace(_MARK, " "))
    if count and len(words) < _WORDS_PER_VARIABLE * count + 1:
        yield "body", reasons.FEW_WORDS(words=len(words), count=count)


def _header(form: TemplateForm) -> Iterator[Fault]:
    header = form.header
    if header is None:
        return
    if form.category == "AUTHENTICATION":
        yield "header", reasons.AUTHENTICATION_HEADER()
    elif header.type == "TEXT":
        yield from _header_text(header)
    elif header.type in MEDIA_HEADERS:
        if not _LINK.fullmatch(header.url):
            yield "header", reasons.HEADER_URL(type=header.type)
    elif header.type == "LOCATION":
        yield from _header_place(header)
    else:
        yield "header", reasons.HEADER_TYPE()


def _header_text(header: Header) -> Iterator[Fault]:
    text = header.content
    names = variables_of(text)
    if not text.strip():
        yield "header", reasons.HEADER_CONTENT()
    if len(text) > _LINE_LIMIT:
        yield "header", reasons.HEADER_LONG(length=len(text), most=_LINE_LIMIT)
    if "\n" in text or "*" in text:
        yield "header", reasons.HEADER_FORMATTING()
    if names and names != ["1"]:
        yield "header", reasons.HEADER_VARIABLES()


def _header_place(header: Header) -> Iterator[Fault]:
    if header.latitude is None or not -90 <= header.latitude <= 90:
        yield "header", reasons.HEADER_LATITUDE()
    if header.longitude is None or not -180 <= header.longitude <= 180:
        yield "header", reasons.HEADER_LONGITUDE()


def _footer(form: TemplateForm) -> Iterator[Fault]:
    if form.footer and form.category == "AUTHENTICATION":
        yield "footer", reasons.AUTHENTICATION_FOOTER()
    if len(form.footer) > _LINE_LIMIT:
        yield "footer", reasons.FOOTER_LONG(length=len(form.footer), most=_LINE_LIMIT)
    if "{{" in form.footer:
        yield "footer", reasons.FOOTER_VARIABLES()


def _buttons(form: TemplateForm) -> Iterator[Fault]:
    kinds = [button.type for button in form.buttons]
    if form.category == "AUTHENTICATION" and kinds not in ([], ["COPY_CODE"]):
        yield "buttons", reasons.AUTHENTICATION_BUTTONS()
        return
    if len(kinds) > _ALL_BUTTONS:
        yield "buttons", reasons.MANY_BUTTONS(count=len(kinds), most=_ALL_BUTTONS)
    for kind, most in _BUTTONS.items():
        if kinds.count(kind) > most:
            yield "buttons", reasons.MANY_OF_A_KIND(count=kinds.count(kind), kind=kind, most=most)
    if sum((left == "QUICK_REPLY") != (right == "QUICK_REPLY") for left, right in pairwise(kinds)) > 1:
        yield "buttons", reasons.QUICK_REPLIES()
    for position, button in enumerate(form.buttons):
        for reason in _button(button, form.category):
            yield f"buttons.{position}", reason


def _button(button: Button, category: str) -> Iterator[Reason]:
    if button.type not in _BUTTONS:
        yield reasons.BUTTON_TYPE(words=", ".join(_BUTTONS))
        return
    # Meta generates the label of COPY_CODE
    if button.type != "COPY_CODE" and not 1 <= len(button.label) <= _LABEL_LIMIT:
        yield reasons.LABEL(most=_LABEL_LIMIT)
    if "{{" in button.label:
        yield reasons.LABEL_VARIABLES()
    if button.type == "URL":
        yield from _button_url(button)
    elif button.type == "PHONE_NUMBER" and not _PHONE.fullmatch(button.phone_number):
        yield reasons.BUTTON_PHONE()
    elif button.type == "COPY_CODE" and category != "AUTHENTICATION" and not 1 <= len(button.example) <= _CODE_LIMIT:
        yield reasons.BUTTON_CODE(most=_CODE_LIMIT)


def _button_url(button: Button) -> Iterator[Reason]:
    if len(button.url) > _URL_LIMIT or not _LINK.fullmatch(with_variables_as(button.url, "x")):
        yield reasons.BUTTON_URL(most=_URL_LIMIT)
    names = variables_of(button.url)
    if names and (names != ["1"] or button.url.count("{{") != 1 or not button.url.endswith("}}")):
        yield reasons.BUTTON_URL_VARIABLE()
    if names and not button.example:
        yield reasons.BUTTON_EXAMPLE()


def _examples(form: TemplateForm) -> Iterator[Fault]:
    if form.category == "AUTHENTICATION":
        return
    for name in variables_of(form.body):
        if not form.example_of(name):
            yield "variables", reasons.EXAMPLE(name=name)
    header = form.header
    if header and variables_of(header.content) and not (header.example or form.example_of("1")):
        yield "variables", reasons.HEADER_EXAMPLE()
