"""The type of decoded JSON, for code that looks into values whose shape nobody has checked."""

from __future__ import annotations

from typing import TypeAlias

JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"
"""What a JSON decoder returns; `isinstance` narrows it to objects and lists of such values."""
