"""How long a person would take to type a content. Pure."""

from __future__ import annotations

from kurir.messages.content import Content, Document, Image, Location, TemplateUse, Text

_START = 0.4
"""Seconds before the first character."""


def typing_seconds(content: Content, per_character: float, most: float) -> float:
    """Seconds of simulated typing for what a person would type of `content`, at most `most`."""
    match content:
        case Text(body):
            typed = len(body)
        case Image(caption=caption) | Document(caption=caption):
            typed = len(caption)
        case Location() | TemplateUse():
            typed = 0
    return min(most, _START + typed * per_character)
