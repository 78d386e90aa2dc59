"""Converts templates between the public form and Meta's components: for creation, from a listing, and for a send. Pure.

Source: Meta, "Template components" (creation) and `messages/template-messages` (send).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from kurir.kit.json_values import JsonValue
from kurir.messages.template_form import MEDIA_HEADERS, Button, Header, TemplateForm, Variable, variables_of
from kurir.reasons import Reason, ReasonedError
from kurir.reasons import templates as reasons

_UNSENDABLE = re.compile(r"[\n\t]| {5}")


class FillError(ReasonedError):
    """The values do not fit the template; `field` is the request's field that is wrong."""

    def __init__(self, field: str, reason: Reason) -> None:
        super().__init__(reason)
        self.field = field


class VariableCountError(FillError):
    """There are more or fewer values than variables."""

    def __init__(self, wanted: int, given: int) -> None:
        super().__init__("variables", reasons.VARIABLE_COUNT(wanted=wanted, given=given))
        self.wanted = wanted
        self.given = given


def creation_body(form: TemplateForm, header_handle: str = "") -> dict[str, Any]:
    """The JSON of `POST /{waba}/message_templates`; `header_handle` is the uploaded sample of a media header."""
    return {
        "name": form.name,
        "language": form.language,
        "category": form.category,
        "components": _authentication(form) if form.category == "AUTHENTICATION" else _created(form, header_handle),
    }


def _authentication(form: TemplateForm) -> list[dict[str, Any]]:
    label = next((button.label for button in form.buttons if button.label), "")
    button = {"type": "OTP", "otp_type": "COPY_CODE", **({"text": label} if label else {})}
    return [{"type": "BODY", "add_security_recommendation": True}, {"type": "BUTTONS", "buttons": [button]}]


def _created(form: TemplateForm, header_handle: str) -> list[dict[str, Any]]:
    components: list[dict[str, Any]] = []
    if form.header is not None:
        components.append(_created_header(form.header, form.header.example or form.example_of("1"), header_handle))
    body: dict[str, Any] = {"type": "BODY", "text": form.body}
    names = variables_of(form.body)
    if names:
        body["example"] = {"body_text": [[form.example_of(name) for name in names]]}
    components.append(body)
    if form.footer:
        components.append({"type": "FOOTER", "text": form.footer})
    if form.buttons:
        components.append({"type": "BUTTONS", "buttons": [_created_button(button) for button in form.buttons]})
    return components


def _created_header(header: Header, example: str, handle: str) -> dict[str, Any]:
    component: dict[str, Any] = {"type": "HEADER", "format": header.type}
    if header.type == "TEXT":
        component["text"] = header.content
        if variables_of(header.content):
            component["example"] = {"header_text": [example]}
    elif header.type in MEDIA_HEADERS:
        component["example"] = {"header_handle": [handle]}
    return component


def _created_button(button: Button) -> dict[str, Any]:
    match button.type:
        case "URL":
            example = {"example": [button.example]} if variables_of(button.url) else {}
            return {"type": "URL", "text": button.label, "url": button.url, **example}
        case "PHONE_NUMBER":
            return {"type": "PHONE_NUMBER", "text": button.label, "phone_number": button.phone_number}
        case "COPY_CODE":
            return {"type": "COPY_CODE", "example": button.example}
        case _:
            return {"type": button.type, "text": button.label}


_STATUS_WORDS = {"PENDING": "IN_REVIEW", "REINSTATED": "APPROVED", "UNARCHIVED": "APPROVED"}


def shown_status(status: str) -> str:
    """Meta's status word as the public API writes it; a reinstated template counts as approved."""
    return _STATUS_WORDS.get(status.upper(), status.upper())


def form_of(
    name: str, language: str, category: str, components: Sequence[dict[str, Any]], known: TemplateForm | None = None
) -> TemplateForm:
    """The form of a template that Meta lists. What Meta does not return (places, sample addresses, labels) is taken
    from `known`.

    Parts that the form cannot represent are left out.
    """
    parts = {str(part.get("type", "")).upper(): part for part in components}
    body = str(parts.get("BODY", {}).get("text") or (known.body if known else ""))
    return TemplateForm(
        name=name,
        language=language,
        category=category,
        body=body,
        header=_listed_header(parts["HEADER"], known.header if known else None) if "HEADER" in parts else None,
        footer=str(parts.get("FOOTER", {}).get("text") or ""),
        buttons=_listed_buttons(parts.get("BUTTONS", {}).get("buttons")),
        variables=known.variables if known and known.variables else _listed_variables(parts.get("BODY", {}), body),
    )


def _listed_header(part: dict[str, Any], known: Header | None) -> Header:
    kind = str(part.get("format", "TEXT")).upper()
    if known is not None and known.type == kind and kind != "TEXT":
        return known
    return Header(kind, content=str(part.get("text") or ""), example=known.example if known else "")


def _listed_buttons(buttons: JsonValue) -> list[Button]:
    found: list[Button] = []
    for button in buttons if isinstance(buttons, list) else []:
        if isinstance(button, dict):
            example = button.get("example")
            example = example[0] if isinstance(example, list) and example else example
            found.append(
                Button(
                    type=str(button.get("type", "")),
                    label=str(button.get("text") or ""),
                    url=str(button.get("url") or ""),
                    example=example if isinstance(example, str) else "",
                    phone_number=str(button.get("phone_number") or ""),
                )
            )
    return found


def _listed_variables(part: dict[str, Any], body: str) -> list[Variable]:
    example: JsonValue = part.get("example")
    samples = example.get("body_text") if isinstance(example, dict) else None
    row = samples[0] if isinstance(samples, list) and samples and isinstance(samples[0], list) else []
    names = variables_of(body)
    examples = [*map(str, row), *[""] * len(names)]
    return [Variable(f"{{{{{name}}}}}", name, sample) for name, sample in zip(names, examples, strict=False)]


def filled(form: TemplateForm, values: Sequence[str], header: Header | None = None) -> list[dict[str, Any]]:
    """The components of a send, with `values` in the order header, body, buttons.

    A COPY_CODE button takes one more value, or its example. `header` replaces the stored media or place. Raises
    VariableCountError, or FillError naming what is wrong.
    """
    if form.category == "AUTHENTICATION":
        return _filled_code(values)
    title = header or form.header
    slots = [
        len(variables_of(title.content)) if title and title.type == "TEXT" else 0,
        len(variables_of(form.body)),
        *(len(variables_of(button.url)) for button in form.buttons),
    ]
    coupons = sum(button.type == "COPY_CODE" for button in form.buttons)
    wanted = sum(slots)
    if len(values) not in (wanted, wanted + coupons):
        raise VariableCountError(wanted, len(values))
    _check_values(values)
    rest = list(values)
    components: list[dict[str, Any]] = []
    if title is not None and (title.type != "TEXT" or slots[0]):
        components.append({"type": "header", "parameters": [_header_parameter(title, rest)]})
    if slots[1]:
        components.append({"type": "body", "parameters": [_text(rest.pop(0)) for _ in range(slots[1])]})
    for index, button in enumerate(form.buttons):
        parameter = _button_parameter(button, rest)
        if parameter is not None:
            components.append({"type": "button", "index": str(index), **parameter})
    return components


def _filled_code(values: Sequence[str]) -> list[dict[str, Any]]:
    """The components of an authentication template: the code appears in Meta's text and in the button that copies
    it."""
    if len(values) != 1:
        raise VariableCountError(1, len(values))
    _check_values(values)
    code = [_text(values[0])]
    return [
        {"type": "body", "parameters": code},
        {"type": "button", "sub_type": "url", "index": "0", "parameters": code},
    ]


def _check_values(values: Sequence[str]) -> None:
    for position, value in enumerate(values, start=1):
        if not value.strip():
            raise FillError("variables", reasons.VALUE_EMPTY(position=position))
        if _UNSENDABLE.search(value):
            raise FillError("variables", reasons.VALUE_UNSENDABLE(position=position))


def _header_parameter(header: Header, rest: list[str]) -> dict[str, Any]:
    if header.type == "TEXT":
        return _text(rest.pop(0))
    if header.type == "LOCATION":
        if header.latitude is None or header.longitude is None:
            raise FillError("latitude", reasons.PLACE_NEEDED())
        place = {"name": header.name, "address": header.address}
        return {
            "type": "location",
            "location": {
                "latitude": header.latitude,
                "longitude": header.longitude,
                **{key: value for key, value in place.items() if value},
            },
        }
    if not header.url:
        raise FillError("header_url", reasons.FILE_NEEDED(type=header.type))
    kind = header.type.lower()
    file: dict[str, Any] = {"link": header.url}
    if kind == "document":
        file["filename"] = unquote(PurePosixPath(urlsplit(header.url).path).name) or "document"
    return {"type": kind, kind: file}


def _button_parameter(button: Button, rest: list[str]) -> dict[str, Any] | None:
    if button.type == "URL" and variables_of(button.url):
        return {"sub_type": "url", "parameters": [_text(rest.pop(0))]}
    if button.type == "COPY_CODE":
        code = rest.pop(0) if rest else button.example
        return {"sub_type": "copy_code", "parameters": [{"type": "coupon_code", "coupon_code": code}]}
    return None


def _text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}
