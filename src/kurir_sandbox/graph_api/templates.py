"""A message template, and the rules for creating one (Meta, "Template components"). Pure.

A rule that is broken raises `GraphError` with code 100 and Meta's subcode.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from kurir_sandbox.graph_api.errors import GraphError, template_refused
from kurir_sandbox.json_values import JsonValue

CATEGORIES = ("MARKETING", "UTILITY", "AUTHENTICATION")
_LANGUAGES = """
af sq ar ar_EG ar_AE ar_LB ar_MA ar_QA az be_BY bn bn_IN bg ca zh_CN zh_HK zh_TW hr cs da prs_AF nl nl_BE
en en_GB en_US en_AE en_AU en_CA en_GH en_IE en_IN en_JM en_MY en_NZ en_QA en_SG en_UG en_ZA et fil fi fr
fr_BE fr_CA fr_CH fr_CI fr_MA ka de de_AT de_CH el gu ha he hi hu id ga it ja kn kk rw_RW ko ky_KG lo lv
lt mk ms ml mr nb ps_AF fa pl pt_BR pt_PT pa ro ru sr si_LK sk sl es es_AR es_CL es_CO es_CR es_DO es_EC
es_HN es_MX es_PA es_PE es_ES es_UY sw sv ta te th tr uk ur uz vi zu
"""
LANGUAGES = frozenset(_LANGUAGES.split())
MEDIA_FORMATS = ("IMAGE", "VIDEO", "DOCUMENT", "GIF")
HEADER, BODY, FOOTER = 2388047, 2388072, 2388073
TOO_LONG, TOO_MANY_VARIABLES, VARIABLE_AT_EDGE = 2388040, 2388293, 2388299

_NAME = re.compile(r"[a-z0-9_]{1,512}")
_VARIABLE = re.compile(r"\{\{([^{}]*)\}\}")
_BUTTONS_AT_MOST = {"URL": 2, "PHONE_NUMBER": 1, "COPY_CODE": 1, "QUICK_REPLY": 10, "OTP": 1, "VOICE_CALL": 1}
_BUTTON_TYPES = (*_BUTTONS_AT_MOST, "CATALOG", "MPM", "SPM", "FLOW")
_WORDS_PER_VARIABLE = 2  # Meta does not publish the ratio; fewer fixed words than this per variable is refused


@dataclass(frozen=True, slots=True)
class NewTemplate:
    """A template that keeps the rules, before it has an id."""

    name: str
    language: str
    category: str
    components: list[dict[str, Any]]
    parameter_format: str = "POSITIONAL"

    def component(self, kind: str) -> dict[str, Any] | None:
        """The component of type HEADER, BODY, FOOTER or BUTTONS, if it has one."""
        return next((part for part in self.components if part["type"] == kind), None)

    @property
    def buttons(self) -> list[dict[str, Any]]:
        """The buttons in order."""
        return (self.component("BUTTONS") or {}).get("buttons", [])


@dataclass(frozen=True, slots=True)
class Template(NewTemplate):
    """A template of a WhatsApp Business Account. Times in unix seconds."""

    id: str = ""
    waba_id: str = ""
    status: str = "PENDING"
    rejected_reason: str = "NONE"
    quality: str = "UNKNOWN"
    created: float = 0.0
    review_at: float = 0.0
    edits: list[float] = field(default_factory=list)


def variables(text: str) -> list[str]:
    """The names or numbers of the variables in `text`, in order, each once."""
    return list(dict.fromkeys(name.strip() for name in _VARIABLE.findall(text)))


def checked(request: dict[str, Any]) -> NewTemplate:
    """The template asked for in a create request. Raises `GraphError` for the first rule it breaks."""
    name = _string(request, "name")
    if not _NAME.fullmatch(name):
        raise _bad("Param name", "name may hold lower-case letters, digits and _, at most 512 characters")
    language = _string(request, "language")
    if language not in LANGUAGES:
        raise _bad("Param language", f"language {language!r} is not a supported language code")
    category = _string(request, "category").upper()
    if category not in CATEGORIES:
        raise _bad("Param category", f"category must be one of {', '.join(CATEGORIES)}")
    parameter_format = str(request.get("parameter_format") or "POSITIONAL").upper()
    if parameter_format not in ("POSITIONAL", "NAMED"):
        raise _bad("Param parameter_format", "parameter_format must be POSITIONAL or NAMED")
    _check_ttl(request.get("message_send_ttl_seconds"), category)
    components = _components(request.get("components"))
    template = NewTemplate(name, language, category, components, parameter_format)
    if template.component("BODY") is None:
        raise template_refused(BODY, "Body is missing", "components must have exactly one BODY")
    for component in components:
        _CHECKS[component["type"]](component, template)
    return template


def _string(request: dict[str, Any], key: str) -> str:
    value = request.get(key)
    if value is None or value == "":
        raise GraphError(100, message=f"(#100) The parameter {key} is required.")
    if not isinstance(value, str):
        raise _bad(f"Param {key}", f"{key} must be a string")
    return value


def _bad(title: str, explanation: str) -> GraphError:
    return GraphError(100, explanation, message=f"(#100) {title} is invalid: {explanation}")


def _check_ttl(seconds: Any, category: str) -> None:
    if seconds is None or seconds == -1:
        return
    shortest, longest = {
        "AUTHENTICATION": (30, 900),
        "UTILITY": (30, 12 * 3600),
        "MARKETING": (12 * 3600, 30 * 86400),
    }[category]
    if not isinstance(seconds, int) or not shortest <= seconds <= longest:
        raise _bad("Param message_send_ttl_seconds", f"must be {shortest} to {longest} for {category}")


def _objects(value: JsonValue) -> list[dict[str, Any]] | None:
    """The items of an array of objects; None for anything else."""
    if not isinstance(value, list):
        return None
    found = [item for item in value if isinstance(item, dict)]
    return found if len(found) == len(value) else None


def _components(value: JsonValue) -> list[dict[str, Any]]:
    given = _objects(value)
    if given is None:
        raise _bad("Param components", "components must be an array of objects")
    components = [{**item, "type": str(item.get("type", "")).upper()} for item in given]
    kinds = [component["type"] for component in components]
    for kind in kinds:
        if kind not in _CHECKS:
            raise _bad("Param components", f"type {kind!r} is none of {', '.join(_CHECKS)}")
        if kinds.count(kind) > 1:
            raise _bad("Param components", f"{kind} may appear only once")
    return components


def _check_header(header: dict[str, Any], template: NewTemplate) -> None:
    style = str(header.get("format", "")).upper()
    header["format"] = style
    if template.category == "AUTHENTICATION":
        raise template_refused(HEADER, "Header not allowed", "AUTHENTICATION templates have no header")
    if style == "TEXT":
        text = _component_text(header, HEADER, 60, "HEADER")
        if "\n" in text or "*" in text:
            raise template_refused(HEADER, "Header format", "a header has no line breaks or formatting")
        if len(variables(text)) > 1:
            raise template_refused(HEADER, "Header format", "a header has at most one variable")
        _check_names(variables(text), template, HEADER)
        _check_examples(header, template, "header_text", len(variables(text)), HEADER)
    elif style in MEDIA_FORMATS:
        if style == "GIF" and template.category != "MARKETING":
            raise template_refused(HEADER, "Header format", "GIF headers are for MARKETING only")
        example: JsonValue = header.get("example")
        handles = example.get("header_handle") if isinstance(example, dict) else None
        if not isinstance(handles, list) or not handles or not isinstance(handles[0], str):
            raise template_refused(HEADER, "Missing sample", f"{style} header needs example.header_handle")
    elif style != "LOCATION":
        raise template_refused(HEADER, "Header format", f"format {style!r} is not known")


def _check_body(body: dict[str, Any], template: NewTemplate) -> None:
    if template.category == "AUTHENTICATION":
        if body.get("text"):
            raise template_refused(BODY, "Fixed text", "the body of AUTHENTICATION templates is fixed")
        return
    text = _component_text(body, BODY, 1024, "BODY")
    names = variables(text)
    _check_names(names, template, BODY)
    marked = _VARIABLE.sub("\x00", text).strip()
    edge = re.sub(r"[^\w\x00]", "", marked)
    if edge.startswith("\x00") or edge.endswith("\x00"):
        raise template_refused(VARIABLE_AT_EDGE, "Variable at an edge", "the body starts or ends with a variable")
    if re.search("\x00\\s*\x00", marked):
        raise template_refused(BODY, "Body format", "two variables stand side by side")
    words = re.findall(r"\w+", marked.replace("\x00", " "))
    if names and len(words) < _WORDS_PER_VARIABLE * len(names) + 1:
        raise template_refused(TOO_MANY_VARIABLES, "Too many variables", "too few words for the number of variables")
    key = "body_text" if template.parameter_format == "POSITIONAL" else "body_text_named_params"
    _check_examples(body, template, key, len(names), BODY)


def _check_footer(footer: dict[str, Any], template: NewTemplate) -> None:
    if template.category == "AUTHENTICATION":
        minutes = footer.get("code_expiration_minutes")
        if minutes is not None and not (isinstance(minutes, int) and 1 <= minutes <= 90):
            raise template_refused(FOOTER, "Footer format", "code_expiration_minutes must be 1 to 90")
        return
    if "{{" in _component_text(footer, FOOTER, 60, "FOOTER"):
        raise template_refused(FOOTER, "Footer format", "a footer has no variables")


def _check_buttons(component: dict[str, Any], template: NewTemplate) -> None:
    buttons = _objects(component.get("buttons"))
    if not buttons:
        raise _bad("Param buttons", "buttons must be a non-empty array of objects")
    if len(buttons) > 10:
        raise _bad("Param buttons", "at most 10 buttons")
    kinds: list[str] = []
    for button in buttons:
        kind = button["type"] = str(button.get("type", "")).upper()
        if kind not in _BUTTON_TYPES:
            raise _bad("Param buttons", f"type {kind!r} is not known")
        kinds.append(kind)
        _check_button(button, kind)
    for kind, most in _BUTTONS_AT_MOST.items():
        if kinds.count(kind) > most:
            raise _bad("Param buttons", f"at most {most} of type {kind}")
    changes = sum((a == "QUICK_REPLY") != (b == "QUICK_REPLY") for a, b in pairwise(kinds))
    if changes > 1:
        raise _bad("Param buttons", "QUICK_REPLY buttons must stand together, first or last")
    if template.category == "AUTHENTICATION" and kinds != ["OTP"]:
        raise _bad("Param buttons", "AUTHENTICATION templates have one OTP button")


def _check_button(button: dict[str, Any], kind: str) -> None:
    text = button.get("text", "")
    if kind in ("QUICK_REPLY", "URL", "PHONE_NUMBER") and not (isinstance(text, str) and 0 < len(text) <= 25):
        raise _bad("Param buttons", f"text of a {kind} button must be 1 to 25 characters")
    if kind == "URL":
        url = button.get("url", "")
        if not isinstance(url, str) or not re.match(r"https?://[^\s/]+", url) or len(url) > 2000:
            raise _bad("Param buttons", "url must be an http or https address of at most 2000 characters")
        names = _VARIABLE.findall(url)
        if len(names) > 1 or (names and not url.endswith("}}")):
            raise _bad("Param buttons", "url may have one variable, at its end")
        if names and not (isinstance(button.get("example"), list) and button["example"]):
            raise _bad("Param buttons", "url with a variable needs example")
    elif kind == "PHONE_NUMBER":
        if not re.fullmatch(r"\+?\d{1,20}", str(button.get("phone_number", ""))):
            raise _bad("Param buttons", "phone_number must be 1 to 20 digits")
    elif kind == "COPY_CODE":
        example: JsonValue = button.get("example")
        code = example[0] if isinstance(example, list) and example else example
        if not isinstance(code, str) or not 0 < len(code) <= 15:
            raise _bad("Param buttons", "example of a COPY_CODE button must be 1 to 15 characters")
    elif kind == "OTP" and str(button.get("otp_type", "")).upper() not in ("COPY_CODE", "ONE_TAP", "ZERO_TAP"):
        raise _bad("Param buttons", "otp_type must be COPY_CODE, ONE_TAP or ZERO_TAP")


def _component_text(component: dict[str, Any], subcode: int, longest: int, label: str) -> str:
    text = component.get("text")
    if not isinstance(text, str) or not text.strip():
        raise template_refused(subcode, "Text is missing", f"{label} needs text")
    if len(text) > longest:
        raise template_refused(TOO_LONG, "Text too long", f"{label} text has {len(text)} characters of {longest}")
    return text


def _check_names(names: list[str], template: NewTemplate, subcode: int) -> None:
    if template.parameter_format == "POSITIONAL":
        if names != [str(number) for number in range(1, len(names) + 1)]:
            raise template_refused(subcode, "Variable format", "variables must be {{1}}, {{2}}, … without gaps")
    elif not all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names):
        raise template_refused(subcode, "Variable format", "variable names are lower-case letters, digits and _")


def _check_examples(component: dict[str, Any], template: NewTemplate, key: str, count: int, subcode: int) -> None:
    if count == 0:
        return
    named = template.parameter_format == "NAMED"
    key = "header_text_named_params" if named and key == "header_text" else key
    example: JsonValue = component.get("example")
    samples = example.get(key) if isinstance(example, dict) else None
    if key == "body_text" and isinstance(samples, list) and samples and isinstance(samples[0], list):
        samples = samples[0]
    if not isinstance(samples, list) or len(samples) != count:
        raise template_refused(subcode, "Missing sample", f"example.{key} needs {count} sample(s)")


_CHECKS = {"HEADER": _check_header, "BODY": _check_body, "FOOTER": _check_footer, "BUTTONS": _check_buttons}
