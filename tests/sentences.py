"""Reasons as the tests read them: in English."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from kurir.reasons import Reason, as_written, sentence


def english(reason: Reason) -> str:
    """The reason's English sentence."""
    return sentence(reason, "en")


def all_english(reasons: Iterable[Reason]) -> list[str]:
    """The reasons' English sentences."""
    return [english(reason) for reason in reasons]


def in_english(outcome: Any) -> Any:
    """The outcome with its reason as the sentence that it becomes."""
    return msgspec.structs.replace(outcome, reason=as_written(english(outcome.reason)))
