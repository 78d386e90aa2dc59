"""Filling a template with the parameters of one send: what the person sees. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from kurir_sandbox.graph_api.errors import GraphError
from kurir_sandbox.graph_api.parameters import Json, array, degrees, optional_text, table
from kurir_sandbox.graph_api.templates import NewTemplate, variables
from kurir_sandbox.json_values import JsonValue
from kurir_sandbox.traffic import Place

_AUTHENTICATION_BODY = {
    "id": "*{{1}}* adalah kode verifikasi Anda.",
    "en": "*{{1}}* is your verification code.",
}
_SECURITY = {"id": " Demi keamanan Anda, jangan bagikan kode ini.", "en": " For your security, do not share this code."}


@dataclass(frozen=True, slots=True)
class Filled:
    """A template with its variables filled in: body parameters in order, and the bubble as text.

    `media` is the header's {id|link, …} object with its type; `place` the header's location.
    """

    parameters: tuple[str, ...]
    bubble: str
    media: tuple[str, Json] | None = None
    place: Place | None = None


def fill(template: NewTemplate, components: list[Any]) -> Filled:
    """Fill `template` with the send-time `components`.

    Raises GraphError 132000 when the count of parameters differs, 132012 when their shape does.
    """
    given = _by_type(components)
    lines: list[str] = []
    media = place = None
    header = template.component("HEADER")
    sent_header = given.get("header", [])
    if header is None or header["format"] == "TEXT":
        text = header["text"] if header else ""
        if text:
            lines.append(_substitute(text, _texts(sent_header, "header"), "header", template))
        elif sent_header:
            raise _count("header", 0, len(sent_header))
    elif header["format"] == "LOCATION":
        place = _location(_only(sent_header, "location"))
        lines.append(f"[location] {place.name}".rstrip())
    else:
        kind = header["format"].lower().replace("gif", "video")
        parameter = _only(sent_header, kind)
        media = (kind, table(parameter, kind, "template.components.header."))
        lines.append(f"[{kind}]")

    values = _texts(given.get("body", []), "body")
    lines.append(_substitute(_body_text(template), values, "body", template))
    if footer := _footer_text(template):
        lines.append(footer)
    lines.extend(_buttons(template, components))
    return Filled(tuple(value for _, value in values), "\n".join(lines), media, place)


def _by_type(components: list[JsonValue]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for component in components:
        if not isinstance(component, dict):
            raise GraphError(132012, "template.components: each component must be an object")
        kind = str(component.get("type", "")).lower()
        if kind not in ("header", "body", "button"):
            raise GraphError(132012, f"template.components: type {kind!r} is none of header, body, button")
        parameters = array(component, "parameters", "template.components.")
        if not all(isinstance(parameter, dict) for parameter in parameters):
            raise GraphError(132012, "template.components.parameters: each parameter must be an object")
        found.setdefault(kind, []).extend(parameters)
    return found


def _texts(parameters: list[Json], where: str) -> list[tuple[str | None, str]]:
    """(name or None, text) of each parameter."""
    texts: list[tuple[str | None, str]] = []
    for parameter in parameters:
        kind = parameter.get("type")
        if kind in ("currency", "date_time"):
            text = optional_text(parameter.get(kind) or {}, "fallback_value", f"{where}.")
        else:
            text = optional_text(parameter, "text", f"{where}.") if kind == "text" else None
        if text is None:
            raise GraphError(132012, f"{where}: a parameter of type text needs text, not {kind!r}")
        if re.search(r"[\n\t]| {5,}", text):
            raise GraphError(132012, f"{where}: parameter text cannot have new-line, tab or more than 4 spaces")
        texts.append((optional_text(parameter, "parameter_name", f"{where}."), text))
    return texts


def _substitute(text: str, values: list[tuple[str | None, str]], where: str, template: NewTemplate) -> str:
    names = variables(text)
    if len(values) != len(names):
        raise _count(where, len(names), len(values))
    if template.parameter_format == "NAMED":
        by_name = {name: value for name, value in values if name is not None}
        if set(by_name) != set(names):
            raise GraphError(132000, f"{where}: parameter_name must be each of {', '.join(names)}")
    else:
        by_name = dict(zip(names, (value for _, value in values), strict=True))
    return re.sub(r"\{\{\s*([^{}]*?)\s*\}\}", lambda match: by_name[match[1]], text)


def _count(where: str, expected: int, given: int) -> GraphError:
    return GraphError(
        132000,
        f"{where}: number of localizable_params ({given}) does not match the expected number of params ({expected})",
    )


def _only(parameters: list[Json], kind: str) -> Json:
    if len(parameters) != 1:
        raise GraphError(
            132012, f"header: Format mismatch, expected {kind.upper()}, received {len(parameters)} parameters"
        )
    if parameters[0].get("type") != kind:
        raise GraphError(
            132012,
            f"header: Format mismatch, expected {kind.upper()}, received {str(parameters[0].get('type')).upper()}",
        )
    return parameters[0]


def _location(parameter: Json) -> Place:
    path = "template.components.header.location."
    place = table(parameter, "location", "template.components.header.")
    return Place(
        degrees(place, "latitude", path, 90),
        degrees(place, "longitude", path, 180),
        optional_text(place, "name", path) or "",
        optional_text(place, "address", path) or "",
    )


def _body_text(template: NewTemplate) -> str:
    body = template.component("BODY") or {}
    if template.category != "AUTHENTICATION":
        return body["text"]
    language = template.language.split("_")[0]
    text = _AUTHENTICATION_BODY.get(language, _AUTHENTICATION_BODY["en"])
    return text + (_SECURITY.get(language, _SECURITY["en"]) if body.get("add_security_recommendation") else "")


def _footer_text(template: NewTemplate) -> str:
    footer = template.component("FOOTER") or {}
    if minutes := footer.get("code_expiration_minutes"):
        return f"{minutes} min"
    return footer.get("text", "")


def _buttons(template: NewTemplate, components: list[Any]) -> list[str]:
    """The buttons as "[text]" lines; a URL button with a variable must get its parameter."""
    sent = {
        str(component.get("index", "0")): component
        for component in components
        if str(component.get("type", "")).lower() == "button"
    }
    unknown = [index for index in sent if not index.isdigit() or int(index) >= len(template.buttons)]
    if unknown:
        raise GraphError(132000, f"button: there is no button with index {unknown[0]}")
    lines: list[str] = []
    for index, button in enumerate(template.buttons):
        line = f"[{button.get('text') or button['type'].replace('_', ' ').title()}]"
        parameters = array(sent.get(str(index), {}), "parameters", "button.")
        dynamic = button["type"] == "OTP" or "{{" in str(button.get("url", ""))
        if dynamic:
            values = _texts(parameters, "button")
            if len(values) != 1:
                raise _count(f"button {index}", 1, len(values))
            if button["type"] == "URL":
                line += " " + re.sub(r"\{\{[^{}]*\}\}", lambda _, value=values[0][1]: value, button["url"])
        elif button["type"] == "URL":
            line += f" {button['url']}"
            if parameters:
                raise _count(f"button {index}", 0, len(parameters))
        lines.append(line)
    return lines
