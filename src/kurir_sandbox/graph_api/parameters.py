"""Reading the parameters of a Graph API request: each reader takes the object, the key and the path to name."""

from __future__ import annotations

from typing import Any

from kurir_sandbox.graph_api.errors import invalid, missing
from kurir_sandbox.json_values import JsonValue

Json = dict[str, Any]


def text(body: Json, key: str, path: str = "", longest: int | None = None) -> str:
    """A mandatory, non-empty string of at most `longest` characters; a number is taken as its digits."""
    value = optional_text(body, key, path, longest)
    if value is None or value == "":
        raise missing(path + key)
    return value


def optional_text(body: Json, key: str, path: str = "", longest: int | None = None) -> str | None:
    """A string, or None when the key is absent or null."""
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise invalid(path + key, "must be a string")
    if longest is not None and len(value) > longest:
        raise invalid(path + key, f"must be at most {longest} characters long, not {len(value)}")
    return value


def table(body: Json, key: str, path: str = "") -> Json:
    """A mandatory JSON object."""
    value: JsonValue = body.get(key)
    if value is None:
        raise missing(path + key)
    if not isinstance(value, dict):
        raise invalid(path + key, "must be an object")
    return value


def array(body: Json, key: str, path: str = "") -> list[Any]:
    """A JSON array; an absent one is empty."""
    value: JsonValue = body.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise invalid(path + key, "must be an array")
    return value


def degrees(body: Json, key: str, path: str, limit: float) -> float:
    """A mandatory latitude or longitude between -limit and limit; a numeric string is accepted."""
    value = body.get(key)
    if value is None or value == "":
        raise missing(path + key)
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not -limit <= number <= limit:
        raise invalid(path + key, f"must be a number between -{limit:g} and {limit:g}")
    return number
