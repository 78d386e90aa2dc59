"""Moments and large numbers as both languages write them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

MONTHS = ("Jan", "Feb", "Mar", "Apr", "Mei", "Jun", "Jul", "Agu", "Sep", "Okt", "Nov", "Des")
"""Indonesian short names of the months."""


def moment(at: float, language: str) -> str:
    """A moment (unix seconds) in UTC, to the minute: `2026-11-26 21:40 UTC`, in Indonesian `26 Nov 2026 21.40 UTC`.

    What is no moment of a calendar is written as the number it is.
    """
    try:
        when = datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{at:g}"
    if language == "en":
        return f"{when:%Y-%m-%d %H:%M} UTC"
    return f"{when.day} {MONTHS[when.month - 1]} {when:%Y %H.%M} UTC"


def count(number: int, language: str) -> str:
    """A large number with its thousands apart: `20,000,000`, in Indonesian `20.000.000`."""
    text = f"{number:,}"
    return text if language == "en" else text.replace(",", ".")
