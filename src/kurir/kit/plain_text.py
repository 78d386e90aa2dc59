"""Text of others shown to people: what acts on a terminal, or on the order of what is read, is made visible. Pure."""

from __future__ import annotations

import unicodedata

_ACTING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of characters that control, format, are no characters, or break lines."""
_JOINERS = "\u200c\u200d"
"""Invisible, but part of words in some scripts and of many emoji; they move nothing."""


def visible(text: str, keep: str = "") -> str:
    r"""`text` with nothing in it that acts: control characters, line breaks, bidirectional controls, other invisible
    characters and halves of surrogate pairs are written as `\x1b` or `\u202e`, but those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        one.encode("unicode_escape").decode()
        if unicodedata.category(one) in _ACTING and one not in _JOINERS and one not in keep
        else one
        for one in text
    )
