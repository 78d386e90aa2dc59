"""The reference collection as data, and the comparison of an answer with its sample.

`samples()` gives the 21 saved requests; `mismatches(sample, answer)` says where an answer differs: other keys, other
JSON types, another fixed text, another date format. Values that are the caller's own (names, ids) may differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

COLLECTION = Path(__file__).with_name("reference_collection.json")

_VARIABLE = frozenset({"otp_code", "req_id", "bc_id", "template"})
"""Texts at the top of an answer that differ from call to call; all other ones there are fixed."""
_FIXED_INSIDE = frozenset({"message.state", "message.type", "message.detail"})
_OPTIONAL = frozenset({"templateId"})
"""Present only on templates that Meta has approved."""
_BY_ID = frozenset({"data"})
"""Objects whose keys are ids, where the sample has one."""
_FREE = frozenset({"template_header", "template_buttons", "custom_fields"})
"""Their inner shape depends on their `type`."""
_FORMATS = {
    "active_from": r"\d{4}-\d\d-\d\d",
    "active_until": r"\d{4}-\d\d-\d\d",
    "registered_at": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
    "last_connected_at": r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)?",
    "otp_code": r"\d{6}",
    "iTotalRecords": r"\d+",
    "iTotalDisplayRecords": r"\d+",
    "whatsapp_number": r"\d{7,15}",
    "wa_number": r"\d{7,15}",
    "role": r"participant|admin|superadmin",
    "contacts_created_at": r"\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d WIB",
    "contacts_last_updated": r"\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d WIB",
    "date_insert": r"\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d WIB",
    "template_created_at": r"\d{1,2} (Jan|Feb|Mar|Apr|Mei|Jun|Jul|Agu|Sep|Okt|Nov|Des) \d{4} \d\d:\d\d WIB",
    "template_updated_at": r"\d{1,2} (Jan|Feb|Mar|Apr|Mei|Jun|Jul|Agu|Sep|Okt|Nov|Des) \d{4} \d\d:\d\d WIB",
    "template_waba": r"\+\d+",
}


@dataclass(frozen=True)
class Saved:
    """A request as the collection saved it: its raw body and its headers (often none)."""

    raw: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Sample:
    """One of the 21 requests: where it stands, its endpoint, its saved forms, and the sample answer."""

    name: str
    path: str
    request: Saved
    answered: Saved
    answer: dict[str, Any]


@cache
def samples() -> tuple[Sample, ...]:
    """All samples in the order of the collection."""
    return tuple(_walk(json.loads(COLLECTION.read_text(encoding="utf-8"))["item"], ""))


def sample(name: str) -> Sample:
    """The sample whose place in the collection ends in `name`, such as `General/Info`. Raises StopIteration."""
    return next(found for found in samples() if found.name.endswith(name))


def filled(raw: str, values: dict[str, str]) -> str:
    """A saved body with the named fields' texts replaced; everything else, comments too, stays as it was saved."""
    for name, value in values.items():
        raw = re.sub(rf'("{name}"\s*:\s*)"[^"]*"', lambda match, value=value: match[1] + json.dumps(value), raw)
    return raw


def mismatches(wanted: Sample, answer: Any) -> list[str]:
    """Every place where `answer` is not of the sample's shape; empty when it is."""
    return list(_compare("", wanted.answer, answer))


def _walk(items: list[dict[str, Any]], place: str) -> Iterator[Sample]:
    for item in items:
        if "item" in item:
            yield from _walk(item["item"], f"{place}{item['name']}/")
            continue
        response = item["response"][0]
        yield Sample(
            name=place + item["name"],
            path=item["request"]["url"].rpartition("/")[2],
            request=_saved(item["request"]),
            answered=_saved(response["originalRequest"]),
            answer=json.loads(response["body"]),
        )


def _saved(request: dict[str, Any]) -> Saved:
    return Saved(request["body"]["raw"], {row["key"]: row["value"] for row in request["header"]})


def _compare(at: str, want: Any, got: Any) -> Iterator[str]:
    name = at.rpartition(".")[2]
    if _kind(want) != _kind(got):
        yield f"{at or 'answer'}: expected {_kind(want)}, got {_kind(got)}"
    elif name in _FREE:
        return
    elif isinstance(want, dict):
        yield from _compare_object(at, want, got)
    elif isinstance(want, list):
        for index, item in enumerate(got):
            yield from _compare(f"{at}[{index}]", want[0], item)
    elif name in _FORMATS:
        if not re.fullmatch(_FORMATS[name], got):
            yield f"{at}: {got!r} is not in the sample's format"
    elif isinstance(want, str) and _is_fixed(at) and _numberless(want) != _numberless(got):
        yield f"{at}: expected {want!r}, got {got!r}"
    elif at == "success" and want != got:
        yield f"{at}: expected {want}, got {got}"


def _compare_object(at: str, want: dict[str, Any], got: dict[str, Any]) -> Iterator[str]:
    if at in _BY_ID:
        (inner,) = want.values()
        for key, value in got.items():
            yield from _compare(f"{at}.{key}", inner, value)
            if value.get("id") != key:
                yield f"{at}.{key}: its id is {value.get('id')!r}"
        return
    for key in want.keys() - got.keys() - _OPTIONAL:
        yield f"{at}.{key}: is missing"
    for key in got.keys() - want.keys():
        yield f"{at}.{key}: is not in the sample"
    for key in want.keys() & got.keys():
        yield from _compare(f"{at}.{key}" if at else key, want[key], got[key])


def _kind(value: Any) -> str:
    kinds = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return kinds.get(type(value), "null")


def _is_fixed(at: str) -> bool:
    return ("." not in at and "[" not in at and at not in _VARIABLE) or at in _FIXED_INSIDE


def _numberless(text: str) -> str:
    return re.sub(r"\(\d+\)", "(n)", text)
